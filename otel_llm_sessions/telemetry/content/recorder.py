"""What becomes of the content of a call: hooks, limits, attributes of its span, an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from opentelemetry._logs import Logger, LogRecord
from opentelemetry.context import Context
from opentelemetry.trace import Span

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import report_unquoted
from otel_llm_sessions.telemetry.content.capture import Capture
from otel_llm_sessions.telemetry.content.completion import Completed
from otel_llm_sessions.telemetry.content.hook import ContentHook
from otel_llm_sessions.telemetry.content.limits import ATTRIBUTES, Limited, limited
from otel_llm_sessions.telemetry.content.plain import Plain
from otel_llm_sessions.telemetry.content.values import LISTS, Content, Extent
from otel_llm_sessions.telemetry.events import EventsSource, event_of


class Said(Protocol):
    """What a call said; nothing of it is looked at before it is asked for."""

    def new(self) -> tuple[Content, Extent]:
        """Return what is to be recorded, and how much that is: only messages at its beginning may be left out."""
        ...

    def whole(self) -> Content:
        """Return all."""
        ...

    def gone(self) -> Sequence[str]:
        """Return the attributes of what was there before and is there no more: their lists are recorded as empty."""
        ...

    def recorded(self) -> None:
        """Take note that what is new has been recorded."""
        ...


class Place(NamedTuple):
    """Where a call's content goes."""

    span: Span | None
    """Its span, if there is one."""
    context: Context
    """The context of the span."""
    asked: dict[str, Any]
    """What the span was created with."""
    ended: int
    """When the call ended, in nanoseconds since the epoch."""


class Recorder:
    """Records contents, as the settings say."""

    def __init__(
        self,
        capture: Capture,
        limit: int,
        hook: ContentHook | None,
        events: EventsSource,
        completed: Completed | None = None,
    ) -> None:
        """Record contents.

        Args:
            capture: where they are recorded.
            limit: characters of one text.
            hook: the application's, if it has one.
            events: where events go.
            completed: util-genai's completion hook, if there is one.
        """
        self._capture = capture
        self._limit = limit
        self._hook = hook
        self._events = events
        self._completed = completed
        self.is_for_all = capture.in_event or completed is not None
        """Whether somebody may want to know what is said where no span is recorded, too."""

    def record(self, attributes: dict[str, Any], place: Place, said: Said) -> str | None:
        """Record what a call said; nothing where that fails.

        Args:
            attributes: what is known of the call, to which is added what its span is to say.
            place: where that goes.
            said: what was said.

        Returns:
            The server's words of an error, for the span's status.
        """
        try:
            is_on_span = self._capture.on_span and place.span is not None and place.span.is_recording()
            logger = self._logger(place)
            if not is_on_span and logger is None and self._completed is None:
                return None
            return self._record(attributes, place, said, is_on_span, logger)
        except Exception as error:
            report_unquoted("record a content", error)
            return None

    def _logger(self, place: Place) -> Logger | None:
        if not self._capture.in_event:
            return None
        logger = self._events.get()
        is_enabled: Any = getattr(logger, "enabled", None)  # not in opentelemetry-api 1.39
        is_wanted = is_enabled is None or is_enabled(context=place.context, event_name=semconv.OPERATION_DETAILS)
        return logger if is_wanted else None

    def _record(
        self, attributes: dict[str, Any], place: Place, said: Said, is_on_span: bool, logger: Logger | None
    ) -> str | None:
        whole = None if self._completed is None else said.whole()
        is_wanted = is_on_span or logger is not None
        recorded, extent = said.new() if is_wanted or whole is None else _all_of(whole)
        if self._hook is not None:
            seen = self._hook.applied(Plain().content(recorded if whole is None else whole))
            if seen is None:
                return None
            if whole is None:
                recorded = seen
            else:
                (recorded, extent), whole = _new_of(seen, whole, recorded, extent), seen
        left = limited(recorded, self._limit, _longest(place.span) if is_on_span else None)
        left.texts.update(dict.fromkeys(said.gone(), "[]"))
        event = None if logger is None else _event(attributes, place, left, extent)
        if self._completed is not None and whole is not None:
            self._tell(self._completed, whole, place.span, event)
        if is_on_span:
            attributes.update(left.texts)
            attributes.update(_marks(left, extent))
        if event is not None and logger is not None:
            logger.emit(event)
        if is_wanted:
            said.recorded()
        return left.content.error if is_on_span else None

    @staticmethod
    def _tell(completed: Completed, whole: Content, span: Span | None, event: LogRecord | None) -> None:
        try:
            completed(Plain().content(whole), span, event)
        except Exception as error:
            report_unquoted("have a completion hook called", error)


def _all_of(whole: Content) -> tuple[Content, Extent]:
    return whole, "full"


def _new_of(seen: Content, whole: Content, new: Content, extent: Extent) -> tuple[Content, Extent]:
    """Return what is to be recorded of a whole content that a hook has changed; all, where it took messages out."""
    count = len(whole.input)
    if extent == "full" or len(seen.input) != count:
        return seen, "full"
    instructions = seen.system_instructions if new.system_instructions else []
    tools = seen.tool_definitions if new.tool_definitions else []
    return Content(seen.input[count - len(new.input) :], seen.output, instructions, tools, seen.error), extent


def _longest(span: Span | None) -> int | None:
    """Return how many characters a span's attribute may have; what is longer, the SDK (1.45) cuts anywhere."""
    longest = getattr(getattr(span, "_limits", None), "max_span_attribute_length", None)
    return longest if type(longest) is int else None


def _marks(left: Limited, extent: Extent) -> dict[str, Any]:
    marks: dict[str, Any] = {semconv.LLM_SESSION_CONTENT: extent}
    if left.cut:
        marks[semconv.LLM_SESSION_CONTENT_CUT] = left.cut
    return marks


def _event(attributes: dict[str, Any], place: Place, left: Limited, extent: Extent) -> LogRecord:
    said = {**place.asked, **attributes, **_marks(left, extent)}
    for attribute, name in zip(ATTRIBUTES, LISTS, strict=True):
        if attribute in left.texts:
            said[attribute] = getattr(left.content, name)
    if left.content.error is not None:
        said[semconv.ERROR_MESSAGE] = left.content.error
    return event_of(semconv.OPERATION_DETAILS, said, place.context, place.ended)
