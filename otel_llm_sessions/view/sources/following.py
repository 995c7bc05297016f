"""All of one session, wherever a backend has it: by what names it, what its spans lead to, what was filed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.dialects import NAMES
from otel_llm_sessions.view.dialects import told as in_conventions
from otel_llm_sessions.view.index import identified
from otel_llm_sessions.view.reading import (
    is_call,
    is_root,
    key_of,
    kind_of,
    previous_id_of,
    response_id_of,
    session_ids_of,
)
from otel_llm_sessions.view.sources.finder import Finder
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.spans import ReceivedSpan

MOST_TRACES: Final = 5_000
MOST_NAMES: Final = 50
"""Ids under which turns of one session may be filed."""
MOST_LOOKED_FOR: Final = 20
"""Responses that are looked for because a turn goes on from them and nobody has told of them."""

CALLED: Final = (semconv.SESSION_ID, semconv.CONVERSATION_ID)
CALLED_BY_OTHERS: Final = NAMES[semconv.SESSION_ID]
"""The attributes by which spans name their session."""


class Following:
    """The search for one session.

    Args:
        finder: where.
        session_id: its id, or an id under which some of its turns were filed.
        since: from when on; nanoseconds since the epoch.
        until: until when.
        told: is told what is left out.
    """

    def __init__(self, finder: Finder, session_id: str, since: int, until: int, told: Told) -> None:
        self._finder = finder
        self._since, self._until = since, until
        self._told = told
        self._names = [session_id]
        self._searched: set[tuple[str, str]] = set()
        self._traces: dict[str, list[ReceivedSpan]] = {}
        self._fetched: set[str] = set()

    def spans(self) -> list[ReceivedSpan]:
        """Everything of the session; none if nobody has told of it."""
        self._by_names()
        while self._traces and (self._follow_links() or self._look_for_befores() or self._take_partial()):
            self._by_names()
        return [span for trace in self._traces.values() for span in trace]

    def _by_names(self) -> None:
        for name in self._names:
            for attribute in CALLED:
                self._search(attribute, name)
        for attribute in () if self._traces else CALLED_BY_OTHERS:
            self._search(attribute, self._names[0])

    def _search(self, attribute: str, value: str) -> list[list[ReceivedSpan]]:
        if (attribute, value) in self._searched:
            return []
        self._searched.add((attribute, value))
        found = list(self._finder.having(attribute, value, self._since, self._until, self._told))
        for trace in found:
            self._keep(trace)
        return found

    def _keep(self, trace: Iterable[ReceivedSpan]) -> None:
        for span in trace:
            self._fetched.add(span.trace_id)
            self._traces.setdefault(span.trace_id, []).append(span)

    def _ours(self) -> list[ReceivedSpan]:
        """The spans that name the session."""
        names = set(self._names)
        spans = (in_conventions(span) for trace in self._traces.values() for span in trace)
        return [span for span in spans if names.intersection(session_ids_of(span))]

    def _follow_links(self) -> bool:
        """Fetch the traces that links of the session's spans lead to; whether there were any."""
        links = (link for span in self._ours() for link in span.links if kind_of(link) != "other_session")
        wanted = list(dict.fromkeys(link.trace_id for link in links if link.trace_id not in self._fetched))
        for trace_id in wanted:
            if len(self._traces) >= MOST_TRACES:
                self._told.notice(f"the session is in more than {MOST_TRACES:,} traces: not all of it is shown")
                break
            self._fetched.add(trace_id)
            self._keep(self._finder.trace(trace_id, self._told))
            self._told.read(f"{len(self._traces):,} traces")
        self._fetched.update(wanted)
        return bool(wanted)

    def _look_for_befores(self) -> bool:
        """Look for the responses that turns go on from and that are not there: by them the session has another name."""
        ours = self._ours()
        there = {response_id_of(span) for span in ours}
        missing = [before for before in map(previous_id_of, ours) if before and before not in there]
        new = [before for before in dict.fromkeys(missing) if (semconv.RESPONSE_ID, before) not in self._searched]
        for before in new[:MOST_LOOKED_FOR]:
            for trace in self._search(semconv.RESPONSE_ID, before):
                self._name(span for span in map(in_conventions, trace) if response_id_of(span) == before)
        return bool(new[:MOST_LOOKED_FOR])

    def _take_partial(self) -> bool:
        """Take what was filed under the id of one of the session's responses; whether there was any.

        Such turns say so (``llm_session.source``), and are few: one search for all of them, not one for each response.
        """
        if self._is_searched(semconv.LLM_SESSION_SOURCE):
            return False
        responses = {said for span in self._ours() if is_call(span) and (said := response_id_of(span))}
        self._searched.add((semconv.LLM_SESSION_SOURCE, "chain_partial"))
        known = len(self._names)
        partial: dict[str, list[ReceivedSpan]] = {}
        having = self._finder.having(semconv.LLM_SESSION_SOURCE, "chain_partial", self._since, self._until, self._told)
        for trace in having:
            for span in map(in_conventions, trace):
                for named in session_ids_of(span):
                    partial.setdefault(named, []).append(span)
        todo = list(responses)
        while todo:
            filed = partial.get(todo.pop(), [])
            self._name(filed)
            todo += [said for span in filed if (said := response_id_of(span)) and said not in responses]
            responses.update(todo)
        return len(self._names) > known

    def _is_searched(self, attribute: str) -> bool:
        return any(name == attribute for name, _ in self._searched)

    def _name(self, spans: Iterable[ReceivedSpan]) -> None:
        """Learn the names of the session that spans tell."""
        for span in spans:
            for named in session_ids_of(span):
                if named in self._names:
                    continue
                if len(self._names) >= MOST_NAMES:
                    self._told.notice(f"its turns are filed under more than {MOST_NAMES} ids: not all of it is shown")
                    return
                self._names.append(named)


def once(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """Each span once, in the order of their traces and their start."""
    by_key = {key_of(span): span for span in map(identified, spans)}
    return sorted(by_key.values(), key=lambda span: (not is_root(span), span.start, key_of(span)))
