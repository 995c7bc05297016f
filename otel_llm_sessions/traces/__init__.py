"""Where a turn's span stands: in the session's trace, or marked there."""
