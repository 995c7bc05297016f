"""The demo room: a loopback server that speaks the OpenAI API, and what the demo needs around it."""
