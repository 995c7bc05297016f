"""The examples of the demo, and what has to arrive from each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.sessions import Session


@dataclass(frozen=True, slots=True)
class Example:
    """A program of the examples, and the sessions it makes."""

    file: str
    sessions: int
    sources: tuple[str, ...]
    """How each turn of a session is found (``llm_session.source``); as many as the session has turns."""
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    """Environment variables that the example's description tells to set."""
    in_request: bool = False
    """Whether the calls are made while serving a request, so that they stand in the request's trace."""

    @property
    def service(self) -> str:
        """The ``service.name`` the example runs under."""
        return self.file.removesuffix(".py").replace("_", "-")


BY_METADATA: Final = (
    ("OTEL_LLM_SESSIONS_PROPAGATE", "metadata"),
    ("OTEL_LLM_SESSIONS_PROVIDER_LOOKUP", "true"),
)

REDACTED: Final = (("OTEL_LLM_SESSIONS_CONTENT_HOOK", "__main__:redacted"),)

EXAMPLES: Final[tuple[Example, ...]] = (
    Example("litellm_chat.py", sessions=1, sources=("metadata",) * 2),
    Example("litellm_responses.py", sessions=1, sources=("new", "chain")),
    Example("streaming_chat.py", sessions=1, sources=("context",) * 3, settings=REDACTED),
    Example("async_sessions.py", sessions=3, sources=("context",) * 3),
    Example("two_processes.py", sessions=1, sources=("new", "provider"), settings=BY_METADATA),
    Example("web_service.py", 3, ("context",) * 2, arguments=("--drive",), in_request=True),
)


def problems(example: Example, sessions: Sequence[Session]) -> list[str]:
    """What is missing or wrong in the sessions that arrived from the example; empty if all is right."""
    found = [f"{len(sessions)} session(s) arrived, {example.sessions} expected"]
    found = found if len(sessions) != example.sessions else []
    for session in sessions:
        found += [f"session {session.id or '(no id)'}: {wrong}" for wrong in _wrong(example, session)]
    return found


def _wrong(example: Example, session: Session) -> Iterator[str]:
    for check in CHECKS:
        yield from check(example, session)


def _id(example: Example, session: Session) -> Iterator[str]:
    ids = {str(turn.attribute(semconv.SESSION_ID) or "") for turn in session.turns}
    if ids - {session.id} or not session.id:
        yield f"its turns say session.id {', '.join(sorted(ids)) or 'nothing'}"


def _numbers(example: Example, session: Session) -> Iterator[str]:
    numbers = [turn.number for turn in session.turns]
    expected = list(range(1, len(example.sources) + 1))
    if numbers != expected:
        yield f"its turns are {numbers}, expected {expected}"


def _calls(example: Example, session: Session) -> Iterator[str]:
    for turn in session.turns:
        if turn.call is None:
            yield f"turn {turn.number} is a marker whose call did not arrive"
        elif turn.failed:
            yield f"turn {turn.number} failed: {turn.attribute(semconv.ERROR_TYPE)} {turn.call.status_message}".rstrip()


def _sources(example: Example, session: Session) -> Iterator[str]:
    sources = tuple(str(turn.attribute(semconv.LLM_SESSION_SOURCE)) for turn in session.turns)
    if sources != example.sources:
        yield f"found by {', '.join(sources)}, expected {', '.join(example.sources)}"


def _links(example: Example, session: Session) -> Iterator[str]:
    for before, turn in pairwise(session.turns):
        if turn.follows is not before:
            yield f"turn {turn.number} has no link to turn {before.number}"


def _places(example: Example, session: Session) -> Iterator[str]:
    for turn in session.turns:
        if (turn.request is not None) != example.in_request:
            yield f"turn {turn.number} should {'' if example.in_request else 'not '}stand in a request's trace"
        # What the provider tells comes late, and no answer moves a span.
        is_elsewhere = example.in_request or turn.attribute(semconv.LLM_SESSION_SOURCE) == "provider"
        if session.root is not None and turn.is_marker != is_elsewhere:
            yield f"turn {turn.number} should {'' if is_elsewhere else 'not '}be a marker"


CHECKS: Final[tuple[Callable[[Example, Session], Iterator[str]], ...]] = (
    _id,
    _numbers,
    _calls,
    _sources,
    _links,
    _places,
)
