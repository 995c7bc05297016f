"""What tests of session traces share."""

from __future__ import annotations

from typing import Any

from otel_llm_sessions.stores.memory import MemoryStore

LINK = "llm_session.link"


def only(spans: list[Any]) -> Any:
    (span,) = spans
    return span


def linked(span: Any, kind: str) -> list[tuple[str, str]]:
    return [(link.trace_id, link.span_id) for link in span.links if link.attributes.get(LINK) == kind]


def ref(span: Any) -> tuple[Any, Any]:
    """Which span a received span, a link or a context is."""
    return span.trace_id, span.span_id


def traceparent_of(span: Any) -> str:
    """The header that names a span which ended here."""
    context = span.context
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def ask(client: Any, session_id: str, **arguments: Any) -> Any:
    return client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], metadata={"session_id": session_id}, **arguments
    )


CHAT_REPLY = {
    "id": "chatcmpl-B1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
}


class Elsewhere(MemoryStore):
    """A store whose other processes get every claim."""

    def claim(self, key: str) -> bool:
        return False
