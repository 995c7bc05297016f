"""What sessions are read from: other programs that keep spans, asked over HTTP."""
