"""OpenTelemetry instrumentation for the ``openai`` client that shows each LLM session as one thing."""

from otel_llm_sessions.evaluating import aevaluate, evaluate
from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor
from otel_llm_sessions.session import (
    Session,
    SessionSpanProcessor,
    current_session,
    session,
    session_trace_id,
)
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.version import __version__

__all__ = [
    "OpenAISessionsInstrumentor",
    "Session",
    "SessionLink",
    "SessionSpanProcessor",
    "SessionStore",
    "__version__",
    "aevaluate",
    "current_session",
    "evaluate",
    "session",
    "session_trace_id",
]
