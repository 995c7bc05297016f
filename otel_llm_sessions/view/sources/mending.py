"""What a backend leaves out of spans, as far as the other spans tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.reading import SpanKey, is_call, is_root, key_of, session_ids_of, target_of
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedSpan

OF_ROOTS: Final = frozenset({semconv.LLM_SESSION_PART, semconv.LLM_SESSION_SOURCE})
NOT_OF_ROOTS: Final = frozenset({semconv.LLM_SESSION_TURN, semconv.OPERATION_NAME, semconv.LLM_SESSION_ROOT})


def with_kinds_of_links(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans, with ``llm_session.link`` on those links of calls and roots that have lost it.

    Jaeger's older API and storages tell of a link only where it leads. A marker's link leads to its call and needs no
    word; a call's leads to the turn before it, or to the session's root; a root's to the part before it, or to the
    session that it was started from.
    """
    spans = list(spans)
    there = {key_of(span): span for span in spans if _may_be_linked(span)}
    return [_mended(span, there) if span.links and _may_be_linked(span) else span for span in spans]


def _may_be_linked(span: ReceivedSpan) -> bool:
    return is_call(span) or is_root(span)


def _mended(span: ReceivedSpan, there: dict[SpanKey, ReceivedSpan]) -> ReceivedSpan:
    return replace(span, links=tuple(_said(span, link, there.get(target_of(link))) for link in span.links))


def _said(span: ReceivedSpan, link: ReceivedLink, target: ReceivedSpan | None) -> ReceivedLink:
    if link.attributes or target is None:
        return link
    return replace(link, attributes={semconv.LLM_SESSION_LINK: _kind(span, target)})


def _kind(span: ReceivedSpan, target: ReceivedSpan) -> str:
    if not is_root(target):
        return "previous_turn"
    return "parent_session" if is_root(span) and session_ids_of(span) != session_ids_of(target) else "session"


def with_roots(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans, with ``llm_session.root`` on the roots of version 0.1.0, which had none.

    They are what belongs to a part of a session's trace and is no turn of it.
    """
    return [_root(span) if _is_root_of_old(span) else span for span in spans]


def _is_root_of_old(span: ReceivedSpan) -> bool:
    said = span.attributes.keys()
    return not span.parent_id and said >= OF_ROOTS and not said & NOT_OF_ROOTS


def _root(span: ReceivedSpan) -> ReceivedSpan:
    return replace(span, attributes={**span.attributes, semconv.LLM_SESSION_ROOT: True})


def with_markers_linked(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of a search that tells no links, with each marker linked to the call that it stands for.

    A marker has the times of its call, and the id of its response. One whose call is not there keeps its place by a
    link that leads nowhere.
    """
    spans = list(spans)
    calls = {moment: key_of(span) for span in spans if is_call(span) for moment in _moments(span)}
    return [_linked(span, calls) if _is_marker(span) else span for span in spans]


def _moments(span: ReceivedSpan) -> list[tuple[object, ...]]:
    response = span.attributes.get(semconv.RESPONSE_ID)
    session = span.attributes.get(semconv.SESSION_ID)
    by_response = [(session, "response", response)] if isinstance(response, str) else []
    return [*by_response, (session, "time", span.start, span.end)]


def _is_marker(span: ReceivedSpan) -> bool:
    turn = semconv.LLM_SESSION_TURN in span.attributes
    return turn and not span.links and not _may_be_linked(span)


def _linked(marker: ReceivedSpan, calls: dict[tuple[object, ...], SpanKey]) -> ReceivedSpan:
    key = next((calls[moment] for moment in _moments(marker) if moment in calls), ("", marker.span_id))
    return replace(marker, links=(ReceivedLink(*key),))
