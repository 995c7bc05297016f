"""What tests of ``session(...)`` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from otel_llm_sessions import current_session
from otel_llm_sessions.testing import CapturedSpans

BOTH_MODES = pytest.mark.parametrize("spans", [{"traces": "session"}, {"traces": "turn"}], indirect=True)


def name_here(*_: Any) -> str | None:
    """The session that is current."""
    here = current_session()
    return here.id if here is not None else None


def calls(spans: Iterable[Any]) -> list[Any]:
    """The spans of chat and responses calls."""
    return [span for span in spans if span.name.startswith("chat ")]


def sessions_of(spans: CapturedSpans) -> list[Any]:
    """The session of each call, in order."""
    return [span.attributes.get("session.id") for span in calls(spans)]


def ask(client: Any, *_: Any) -> Any:
    """One chat call that says nothing of a session."""
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
