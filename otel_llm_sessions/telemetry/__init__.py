"""Spans, metrics and content by the GenAI semantic conventions. Knows no sessions."""
