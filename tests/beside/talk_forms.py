"""The forms in which an application talks, for who plays them and who looks."""

from __future__ import annotations

APIS = ("chat", "responses")
AGAIN = ("chat sync", "chat astream", "responses async", "responses astream")
"""The forms that are played again when one side has been switched."""
IN_A_BLOCK = "chat sync"
"""The form that is played again inside `session(...)`, which names the session as the form does."""
