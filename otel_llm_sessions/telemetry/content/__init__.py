"""What a call says, on its way to spans, events and hooks. Knows no sessions, and no client."""
