"""A server on loopback that speaks the OpenAI API, for the demo."""
