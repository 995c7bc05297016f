"""Who has the model span of a call, beside each peer: what the tests expect, and the documentation says."""

from __future__ import annotations

THEIRS, OWN, BOTH = "theirs", "ours", "both"
"""The peer, with our session on it; we; or each has one, and ours has the session."""

EXPECTED: dict[str, tuple[str, str]] = {
    # peer: chat, responses
    "genai-openai": (THEIRS, THEIRS),
    "openai-v2": (THEIRS, OWN),
    "openllmetry": (THEIRS, BOTH),
    "openinference": (THEIRS, THEIRS),
    "elastic": (THEIRS, OWN),
    "langfuse": (BOTH, BOTH),
    "openlit": (THEIRS, THEIRS),
    "langchain": (BOTH, BOTH),
    "openinference-langchain": (BOTH, BOTH),
    "openai-agents": (OWN, OWN),
    "fastapi": (OWN, OWN),
    "celery": (OWN, OWN),
    "http": (OWN, OWN),
    "sentry": (OWN, OWN),
    "ddtrace": (OWN, OWN),
    "newrelic": (OWN, OWN),
}
LOGFIRE = {"first": BOTH, "last": THEIRS}
"""Logfire with the lines that docs/beside-others.md has for it, loaded before us and after us."""
