"""Naming a session from within the application: ``session(...)``, ``current_session()``, ``SessionSpanProcessor``."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from opentelemetry.context import Context, attach, get_current, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_llm_sessions.decorating import decorated
from otel_llm_sessions.guard import report
from otel_llm_sessions.semconv import SESSION_ID
from otel_llm_sessions.sessions.about import NOTHING_SAID, said_anew
from otel_llm_sessions.sessions.blocks import OPEN, GeneratorBlock, block_of, generator_of, seen_from_here, within
from otel_llm_sessions.sessions.inside import ENTRY_KEY, Inside, session_inside
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.sources import (
    SESSION_CONTEXT_KEY,
    about_in,
    from_baggage,
    from_context,
    session_id_of,
)
from otel_llm_sessions.sessions.texts import MAX_LENGTH, refuse, shown
from otel_llm_sessions.traces.ids import derived_trace_id

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Session:
    """A session that the application named.

    Example::

        with session("chat-42") as inside:
            assert inside == Session(id="chat-42")

    Attributes:
        id: what its calls are grouped by, a string of 1 to 256 characters.
    """

    id: str


def session_trace_id(session_id: str, *, namespace: str = "", part: int = 1, key: str | None = None) -> str:
    """Return the trace id of a session, as 32 hexadecimal digits.

    The first 16 bytes of SHA-256 over namespace, session id and part (UTF-8, with a NUL character between them); with a
    key of HMAC-SHA-256.
    That is the trace of a session whose id the application or the provider gave; a chain that started without an id
    begins in a trace of its own, named by the link that its turns carry.

    Example::

        assert session_trace_id("chat-42") == "335b0016c289f8cc56b5e6847a5708e4"

    Args:
        session_id: the session.
        namespace: the setting ``NAMESPACE``, by default ``service.namespace`` of the resource.
        part: 1, 2, …: long sessions continue in further traces.
        key: the setting ``KEY``.

    Raises:
        ValueError: ``part`` is no whole number greater than 0.
    """
    if not isinstance(part, int) or part < 1:
        refuse("part", part, "a whole number greater than 0")
    return f"{derived_trace_id(session_id, namespace, part, key):032x}"


class Entrance(Protocol):
    """Puts a context into a session's trace; a running instrumentation offers it."""

    def enter(self, session_id: str, context: Context) -> Context:
        """Return ``context`` inside the session's trace, or unchanged."""
        ...

    async def aenter(self, session_id: str, context: Context) -> Context:
        """As ``enter``, for callers on an event loop."""
        ...

    def prepare(self) -> None:
        """Get ready for a block of a generator's, which opens no trace."""
        ...


_entrance: Callable[[], Entrance | None] | None = None


_reads_baggage = True


def set_entrance(entrance: Callable[[], Entrance | None] | None, *, baggage: bool = True) -> None:
    """Set what puts contexts into session traces, asked when it is needed; None when nothing is instrumented.

    Args:
        entrance: what returns it.
        baggage: the setting ``BAGGAGE``.
    """
    global _entrance, _reads_baggage
    _entrance, _reads_baggage = entrance, baggage


class _Entry(NamedTuple):
    """One time that a session was entered."""

    owner: session
    outside: Context


class session:
    """Names the session of everything inside: a context manager, an async one, and a decorator.

    Example::

        with session("chat-42"):
            client.responses.create(model="gpt-4o-mini", input="Hello")

        @session("chat-42")
        async def answer(question): ...

    A block in a generator counts only while that generator runs, unless contextlib or a test's fixture drives it: those
    blocks last until they are left.

    Args:
        id: the session's id, a printable string of 1 to 256 characters, or a number; a new UUID by default (for a
            decorator, one for each call).
        user: whose session it is, a printable string of at most 256 characters, or a number: on its root, its turns
            and all that is started inside, as ``user.id``.
        name: what to call the session, such a string: likewise, as ``llm_session.name``.
        tags: a list, tuple or set of at most 16 such strings: likewise, as ``llm_session.tags``. An inner block of the
            same session keeps the user, the name and the tags that it does not set anew; one of another session
            inherits nothing.
        propagate: whether to set the W3C baggage entry ``session.id`` too, which instrumented HTTP clients send to
            the services they call.

    Raises:
        ValueError: the id is none, or the user, the name or the tags are not valid.
    """

    def __init__(
        self,
        id: str | int | None = None,
        *,
        user: str | int | None = None,
        name: str | None = None,
        tags: Collection[str] | None = None,
        propagate: bool = False,
    ) -> None:
        given = None if id is None else session_id_of(id)
        if given is None and id is not None:
            allowed = f"a printable string of 1 to {MAX_LENGTH} characters or a number"
            raise ValueError(f"session({shown(id)}) is not valid: expected {allowed}")
        self._id = given
        self._anew = said_anew(name, user, tags)
        self._propagate = propagate
        self._blocks: list[GeneratorBlock] = []
        """Those that generators have open; they hold this object, so that it goes with them."""

    def __enter__(self) -> Session:
        named = self._named()
        if (generator := generator_of(sys._getframe(1))) is not None:
            return self._open_in(generator, named)
        outside = get_current()
        return self._attach(named, self._into(named, outside), outside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(sys._getframe(1))

    async def __aenter__(self) -> Session:
        named = self._named()
        if (generator := generator_of(sys._getframe(1))) is not None:
            return self._open_in(generator, named)
        outside = get_current()
        return self._attach(named, await self._ainto(named, outside), outside)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(sys._getframe(1))

    def _leave(self, frame: FrameType) -> None:
        if self._blocks and (block := block_of(frame, self._blocks, anywhere=False)):
            return self._close(block)
        # Found in the context, not kept here: one object may be entered in many threads and tasks at a time. Restored
        # by value: the block may end in another context than it began in, where a token would not be valid.
        entry = get_current().get(ENTRY_KEY)
        while isinstance(entry, _Entry):
            if entry.owner is self:
                attach(entry.outside)
                return None
            entry = entry.outside.get(ENTRY_KEY)
        if self._blocks:  # left by a function that the generator calls, or by somebody else
            self._close(block_of(frame, self._blocks, anywhere=True) or self._blocks[-1])

    def _open_in(self, generator: FrameType, named: Session) -> Session:
        self._blocks.append(GeneratorBlock(generator, self._inside(named, seen_from_here(get_current()))))
        entrance = _entrance() if _entrance is not None else None
        if entrance is not None:
            entrance.prepare()
        return named

    def _close(self, block: GeneratorBlock) -> None:
        block.close()
        self._blocks.remove(block)

    def _named(self) -> Session:
        return Session(self._id if self._id is not None else str(uuid.uuid4()))

    def _inside(self, named: Session, context: Context) -> Inside:
        return session_inside(SessionId(named.id), context, anew=self._anew, propagate=self._propagate)

    def _into(self, named: Session, outside: Context) -> Context:
        context = self._inside(named, outside).into(outside, within())
        entrance = _entrance() if _entrance is not None else None
        return context if entrance is None else entrance.enter(named.id, context)

    async def _ainto(self, named: Session, outside: Context) -> Context:
        context = self._inside(named, outside).into(outside, within())
        entrance = _entrance() if _entrance is not None else None
        return context if entrance is None else await entrance.aenter(named.id, context)

    def _attach(self, named: Session, context: Context, outside: Context) -> Session:
        attach(set_value(ENTRY_KEY, _Entry(self, outside), context))
        return named

    def __call__(self, function: F) -> F:
        """Return ``function`` so that each call of it runs inside the session.

        A generator function's generators are inside while they run; what else runs later and is returned (a coroutine,
        a generator, a context manager of contextlib's) likewise.

        Raises:
            TypeError: ``function`` is a class, or cannot be called.
        """
        return cast(F, decorated(function, self._begin))

    def _begin(self) -> _Call:
        call = _Call(self._named().id, propagate=self._propagate)
        call._anew = self._anew
        return call


class _Call(session):
    """The block of one call of a decorated function, into which a generator goes step by step."""

    def into(self, context: Context) -> Context:
        return self._into(self._named(), context)

    async def ainto(self, context: Context) -> Context:
        return await self._ainto(self._named(), context)


def current_session() -> Session | None:
    """Return the session that the current context names, or None.

    The nearest of ``session(...)``, OpenInference's ``using_session`` and util-genai's conversation id; else the
    baggage of the request being served, unless the setting ``BAGGAGE`` is false.

    Example::

        with session("chat-42"):
            assert current_session().id == "chat-42"
    """
    context = seen_from_here(get_current())
    given = from_context(context) or (from_baggage(context) if _reads_baggage else None)
    return Session(given.session_id) if given is not None else None


class SessionSpanProcessor(SpanProcessor):
    """Stamps ``session.id``, and what is said of the session, on every span started inside ``session(...)``.

    Whoever starts it, and unless it says it itself: the user, the name and the tags.

    ``instrument()`` adds one to the tracer provider; add one yourself to a provider that is not the global one.

    Example::

        provider = TracerProvider()
        provider.add_span_processor(SessionSpanProcessor())
    """

    def __init__(self) -> None:
        self.enabled = True
        self.before_flush: Callable[[int], object] | None = None
        """What ends spans whose end is kept back, for ``force_flush``; the running instrumentation sets it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Set ``session.id`` unless the span has one, and what is said of the session if that is its own."""
        if not self.enabled:
            return
        try:
            context = get_current() if parent_context is None else parent_context
            if OPEN:
                context = seen_from_here(context)
            session_id = context.get(SESSION_CONTEXT_KEY)
            if session_id is None or not is_instrumentation_enabled():
                return
            attributes = span.attributes or {}
            if SESSION_ID not in attributes:
                span.set_attribute(SESSION_ID, str(session_id))
            elif attributes[SESSION_ID] != session_id:
                return
            about = about_in(context, str(session_id))
            if about is not NOTHING_SAID:
                span.set_attributes({key: value for key, value in about.attributes().items() if key not in attributes})
        except Exception as error:  # a span that is not the SDK's
            report("stamp a span", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing: spans are exported by other processors."""

    def shutdown(self) -> None:
        """As ``force_flush``, for exporters that come behind this: those before it have been shut down."""
        self.force_flush()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """End the spans of calls that have ended, and of whose sessions something was still to be heard.

        What calls left behind for other processes is then written to the store, if the store takes it now.
        """
        if self.enabled and self.before_flush is not None:
            try:
                self.before_flush(timeout_millis)
            except Exception as error:
                report("end a span", error)
        return True
