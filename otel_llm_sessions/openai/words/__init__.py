"""What requests and replies say, in the JSON that the conventions have for it."""
