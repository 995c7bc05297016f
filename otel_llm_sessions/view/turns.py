"""A session's turns and judgements, as values: what the spans that stand for them say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.costs import Cost, cost_in
from otel_llm_sessions.view.reading import (
    count_in,
    number_in,
    response_id_of,
    text_in,
)
from otel_llm_sessions.view.spans import Attributes, ReceivedSpan
from otel_llm_sessions.view.words import Message, Words, words_in

CUT: Final = "the content was cut off by the backend: what is shown is its beginning"
ERROR: Final = "error"
"""What a turn failed of, where its span does not say."""


@dataclass(frozen=True, eq=False)
class Turn:
    """One turn of a session. Two are equal if they are the same.

    Args:
        span: what stands for it in the session: the call's own span, or a marker.
        call: the call's span; None where a marker's link leads to a span that did not arrive.
        request: the topmost span above the call, where it was made in one.
        follows: the turn before, by its link or by the id of the response that it goes on from; None if there is none.
        contents: what its event says, where contents are events.
        part: the part of the session's trace in which it stands; None where sessions are no traces.
        number: which turn of its session this is; 0 where no span says it.
    """

    span: ReceivedSpan
    call: ReceivedSpan | None
    request: ReceivedSpan | None = None
    follows: Turn | None = field(default=None, repr=False)
    contents: Attributes = field(default_factory=dict, repr=False)
    part: int | None = None
    number: int = 0

    @property
    def _said(self) -> ReceivedSpan:
        """The span that says most of it."""
        return self.call or self.span

    @property
    def is_marker(self) -> bool:
        """Whether a marker stands in the session, the call elsewhere."""
        return self.span is not self.call

    def attribute(self, name: str) -> object:
        """An attribute of the call, or of what stands for it."""
        return self._said.attributes.get(name, self.span.attributes.get(name))

    @property
    def attributes(self) -> Attributes:
        """All attributes of the call's span (the marker's, where that did not arrive)."""
        return self._said.attributes

    @property
    def trace_id(self) -> str:
        """The trace in which the call stands; where it did not arrive, its marker."""
        return self._said.trace_id

    @property
    def span_id(self) -> str:
        """The id of the call's span; where it did not arrive, its marker's."""
        return self._said.span_id

    @property
    def start(self) -> int:
        """When it began, in nanoseconds since the epoch."""
        return self._said.start

    @property
    def end(self) -> int:
        """When it ended, in nanoseconds since the epoch."""
        return max(self._said.end, self._said.start)

    @property
    def service(self) -> str:
        """The name of the service that made the call; empty if nothing says it."""
        return text_in(self._said.resource, "service.name") or ""

    @cached_property
    def response_id(self) -> str | None:
        """The id of the response."""
        return response_id_of(self._said) or response_id_of(self.span)

    @cached_property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked."""
        return self._text(semconv.RESPONSE_MODEL) or self._text(semconv.REQUEST_MODEL)

    @property
    def operation(self) -> str:
        """What the call does (``chat``, ``compact``); empty if nothing says it."""
        return self._text(semconv.OPERATION_NAME) or ""

    @cached_property
    def source(self) -> str | None:
        """How the session was found (``llm_session.source``)."""
        return self._text(semconv.LLM_SESSION_SOURCE)

    @cached_property
    def input_tokens(self) -> int | None:
        """Tokens that the model read."""
        told = count_in(self._said.attributes, semconv.USAGE_INPUT_TOKENS)
        return count_in(self.span.attributes, semconv.LLM_SESSION_INPUT_TOKENS) if told is None else told

    @cached_property
    def output_tokens(self) -> int | None:
        """Tokens that the model wrote, reasoning included."""
        told = count_in(self._said.attributes, semconv.USAGE_OUTPUT_TOKENS)
        return count_in(self.span.attributes, semconv.LLM_SESSION_OUTPUT_TOKENS) if told is None else told

    @property
    def cached_tokens(self) -> int | None:
        """Those of the tokens read that a cache already had."""
        return count_in(self._said.attributes, semconv.USAGE_CACHE_READ_INPUT_TOKENS)

    @property
    def reasoning_tokens(self) -> int | None:
        """Those of the tokens written that were reasoning."""
        return count_in(self._said.attributes, semconv.USAGE_REASONING_OUTPUT_TOKENS)

    @cached_property
    def price(self) -> Cost | None:
        """What the call cost, as its span says; None if it says nothing."""
        return cost_in(self._said.attributes)

    @property
    def cost(self) -> float | None:
        """The amount that the call cost, in ``currency``."""
        return self.price.amount if self.price else None

    @property
    def currency(self) -> str | None:
        """The cost's currency (ISO 4217); None where there is no cost, or nothing says which."""
        return self.price.currency or None if self.price else None

    @property
    def failed(self) -> bool:
        """Whether the call ended in an error."""
        return self._said.status == "ERROR"

    @property
    def error(self) -> str | None:
        """What kind of error the call ended in (``error.type``); None if it ended well."""
        return (self._text(semconv.ERROR_TYPE) or self._raised("exception.type") or ERROR) if self.failed else None

    @property
    def error_text(self) -> str | None:
        """The error in the server's own words, where these are recorded."""
        if not self.failed:
            return None
        said = self._said.status_message or text_in(self.contents, semconv.ERROR_MESSAGE)
        return said or self._raised("exception.message")

    @property
    def first_chunk(self) -> float | None:
        """Seconds until the first chunk of a stream came."""
        return number_in(self._said.attributes, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)

    @cached_property
    def _words(self) -> tuple[Words, Words]:
        said = {**self.contents, **self._said.attributes}
        return words_in(said, semconv.INPUT_MESSAGES), words_in(said, semconv.OUTPUT_MESSAGES)

    @property
    def input(self) -> tuple[Message, ...]:
        """What was said to the model; empty where that is not recorded."""
        return self._words[0].messages

    @property
    def output(self) -> tuple[Message, ...]:
        """What the model said; empty where that is not recorded."""
        return self._words[1].messages

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What the reader has to know of the turn, one line each."""
        return tuple(self._notices())

    def _notices(self) -> Iterator[str]:
        if any(words.is_cut for words in self._words):
            yield CUT
        said = {**self.contents, **self._said.attributes}
        if left_out := count_in(said, semconv.LLM_SESSION_CONTENT_CUT):
            yield f"{left_out:,} characters were left out when the content was recorded"

    def _raised(self, name: str) -> str | None:
        """What the span's exception says, where an instrumentation recorded it as an event."""
        said = (text_in(event.attributes, name) for event in self._said.events if event.name == "exception")
        return next((each for each in said if each), None)

    def _text(self, name: str) -> str | None:
        return text_in(self._said.attributes, name) or text_in(self.span.attributes, name)


class Evaluation(NamedTuple):
    """A judgement of what a model did, of a session or of one of its turns.

    Args:
        name: what was judged.
        score: the judgement as a number.
        label: the judgement in a word.
        explanation: why.
        time: when it was given, in nanoseconds since the epoch.
        turn: the turn that is meant; None if it is the session, or a turn that did not arrive.
        response_id: the response that is meant.
        span: its span; None where only its event arrived.
    """

    name: str
    score: float | None = None
    label: str | None = None
    explanation: str | None = None
    time: int = 0
    turn: Turn | None = None
    response_id: str | None = None
    span: ReceivedSpan | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A span of a session with what was started inside it; a turn when it is one."""

    span: ReceivedSpan
    turn: Turn | None = None
    children: tuple[Node, ...] = ()
