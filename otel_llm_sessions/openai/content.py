"""The content of one call: kept while it goes on, and recorded at its end, where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import report_unquoted
from otel_llm_sessions.openai.delta import ALL, News
from otel_llm_sessions.openai.describe import add_session
from otel_llm_sessions.openai.fields import field, mapping
from otel_llm_sessions.openai.new_content import NewContent
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.openai.words.asked import held, instructions_in, said_in, tools_in
from otel_llm_sessions.openai.words.replied import replied
from otel_llm_sessions.telemetry.call_span import CallSpan
from otel_llm_sessions.telemetry.content.recorder import Place, Recorder
from otel_llm_sessions.telemetry.content.values import Content, Extent


class Ended(Protocol):
    """What is asked of a call that has ended."""

    runtime: Runtime
    request: Request
    reply: Reply
    turn: Turn
    span: CallSpan
    first_chunk: float | None


class CallContent:
    """What one call says. Nothing of it is looked at before the call has ended."""

    __slots__ = ("_asked", "_error", "_recorder")

    def __init__(self, recorder: Recorder, sent: tuple[Any, ...]) -> None:
        """Keep what is sent.

        Args:
            recorder: what records contents.
            sent: what ``request.SENT`` reads of the client's options.
        """
        _, _, _, body, extra = sent
        self._asked: dict[str, Any] | None = held(mapping(body), mapping(extra))
        self._error: str | None = None
        self._recorder = recorder

    def goes_to(self, span: CallSpan) -> bool:
        """Whether it is to be recorded of a call that has this span."""
        own = span.own
        return own is not None and (self._recorder.is_for_all or own.is_recording())

    def fail(self, error: BaseException | None) -> None:
        """Note what a call failed with."""
        try:
            self._error = text_of_error(error)
        except Exception as failure:
            report_unquoted("read an error", failure)

    def tell(self, attributes: dict[str, Any], call: Ended, error_type: str | None, ended: int) -> str | None:
        """Record what was said, once.

        Args:
            attributes: what is known of the call at its end, to which is added what its span is to say.
            call: the call.
            error_type: ``error.type`` of one that failed.
            ended: when it ended, in nanoseconds since the epoch.

        Returns:
            The server's words of an error, for the span's status.
        """
        asked, self._asked = self._asked, None
        if asked is None or call.span.own is None:
            return None
        if error_type is not None:
            attributes[semconv.ERROR_TYPE] = error_type
        if call.first_chunk is not None:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = call.first_chunk
        known = call.request.attributes.copy()
        add_session(known, call.request, call.turn, call.runtime)
        place = Place(call.span.own, call.span.sent_in, known, ended)
        return self._recorder.record(attributes, place, _Said(asked, call, self._error))


class _Said:
    """See ``Said``."""

    __slots__ = ("_asked", "_call", "_error", "_new")

    def __init__(self, asked: Mapping[str, Any], call: Ended, error: str | None) -> None:
        self._asked = asked
        self._call = call
        self._error = error
        self._new: NewContent | None = None

    def new(self) -> tuple[Content, Extent]:
        """See ``Said``."""
        call = self._call
        self._new = NewContent(call.runtime.deltas, self._asked, call.request, call.turn)
        return self._content(self._new.news), self._new.news.kind

    def gone(self) -> Sequence[str]:
        """See ``Said``."""
        return () if self._new is None else self._new.gone

    def recorded(self) -> None:
        """See ``Said``."""
        if self._new is not None:
            self._new.record(self._call.reply)

    def whole(self) -> Content:
        """See ``Said``."""
        return self._content(ALL)

    def _content(self, news: News) -> Content:
        asked, reply = self._asked, self._call.reply
        api = reply.route.api
        return Content(
            said_in(api, asked, news.first),
            replied(reply),
            instructions_in(api, asked) if news.instructions else [],
            tools_in(api, asked) if news.tools else [],
            self._error or text_in(field(reply.error, "message")),
        )


def text_in(said: Any) -> str | None:
    """Return a text as a plain string if there is something in it; None of anything else."""
    return (str.__str__(said) or None) if isinstance(said, str) else None


def text_of_error(error: BaseException | None) -> str | None:
    """Return what an exception of the client quotes of the server's words; else what the client itself says."""
    body = getattr(error, "body", None)
    return text_in(body) or text_in(field(body, "message")) or text_in(getattr(error, "message", None))
