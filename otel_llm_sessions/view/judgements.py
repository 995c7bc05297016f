"""The judgements of sessions and their turns: spans, events in logs, or both of one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.reading import (
    SpanKey,
    event_name_of,
    is_evaluation,
    is_root,
    key_of,
    number_in,
    session_id_in,
    session_ids_of,
    target_of,
    text_in,
)
from otel_llm_sessions.view.spans import Attributes, ReceivedLog, ReceivedSpan
from otel_llm_sessions.view.turns import Evaluation, Turn


class Judgement(NamedTuple):
    """A judgement, before it is known what is judged."""

    said: Evaluation
    near: tuple[SpanKey, ...]
    """Spans of which one may be the call that is judged."""
    session_id: str | None


def judgements_of(spans: Spans, logs: Iterable[ReceivedLog]) -> list[Judgement]:
    """Return what was judged, each once, by time: an event that says what a span says is the same judgement."""
    found = [_of_span(spans, span) for span in spans.all if is_evaluation(span)]
    told = Counter(map(_words, found))
    events = {(log.trace_id, log.span_id, log.time, repr(log.attributes)): log for log in logs if _is_event(log)}
    for _, log in sorted(events.items()):
        judgement = _of_event(log)
        if told[_words(judgement)] > 0:
            told[_words(judgement)] -= 1
        else:
            found.append(judgement)
    return sorted(found, key=lambda one: (one.said.time, str(one.said)))


def placed(
    judgements: Iterable[Judgement], turns: Mapping[str, tuple[Turn, ...]], names: Mapping[str, str]
) -> dict[str, list[Evaluation]]:
    """Return the judgements of each session, with the turns that are meant.

    Args:
        judgements: all of them.
        turns: each session's.
        names: the session's id by each id under which anything of it was filed.
    """
    by_key: dict[SpanKey, tuple[str, Turn]] = {}
    by_response: dict[tuple[str, str], tuple[str, Turn]] = {}
    for session_id, its in turns.items():
        for turn in its:
            by_key |= {key_of(span): (session_id, turn) for span in (turn.span, turn.call) if span}
            for whose in (session_id, ""):
                by_response.setdefault((turn.response_id or "", whose), (session_id, turn))
    found: defaultdict[str, list[Evaluation]] = defaultdict(list)
    for judgement in judgements:
        named = names.get(judgement.session_id or "", "")
        linked = next((by_key[key] for key in judgement.near if key in by_key), None)
        meant = linked or by_response.get((judgement.said.response_id or "-", named))
        if meant or named:
            found[meant[0] if meant else named].append(judgement.said._replace(turn=meant[1] if meant else None))
    return found


def _of_span(spans: Spans, span: ReceivedSpan) -> Judgement:
    said = _evaluation(span.attributes, span.start, span)
    ids = session_ids_of(span) or spans.nearest(span, _ids_of_root) or ()
    near = (*map(target_of, span.links), (span.trace_id, span.parent_id))
    return Judgement(said, near, ids[0] if ids else None)


def _ids_of_root(span: ReceivedSpan) -> tuple[str, ...] | None:
    return session_ids_of(span) if is_root(span) else None


def _of_event(log: ReceivedLog) -> Judgement:
    said = _evaluation(log.attributes, log.time)
    return Judgement(said, ((log.trace_id, log.span_id),), session_id_in(log.attributes))


def _is_event(log: ReceivedLog) -> bool:
    return event_name_of(log) == semconv.EVALUATION_RESULT and semconv.EVALUATION_NAME in log.attributes


def _words(judgement: Judgement) -> Evaluation:
    """What a judgement says, whenever and wherever."""
    return judgement.said._replace(time=0, span=None)


def _evaluation(attributes: Attributes, time: int, span: ReceivedSpan | None = None) -> Evaluation:
    return Evaluation(
        text_in(attributes, semconv.EVALUATION_NAME) or "",
        number_in(attributes, semconv.EVALUATION_SCORE_VALUE),
        text_in(attributes, semconv.EVALUATION_SCORE_LABEL),
        text_in(attributes, semconv.EVALUATION_EXPLANATION),
        time,
        response_id=text_in(attributes, semconv.RESPONSE_ID),
        span=span,
    )
