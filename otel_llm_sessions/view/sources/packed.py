"""Many traces, packed: what belongs together is unpacked together, one group of traces after the other.

A backend answers with traces, and a session is in several of them. Ten thousand sessions are a hundred thousand spans,
which are a few hundred bytes each while they are packed, and kilobytes while they are not.
"""

from __future__ import annotations

import pickle
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from otel_llm_sessions.view.reading import (
    is_call,
    is_evaluation,
    is_marker,
    is_root,
    previous_id_of,
    response_id_of,
    session_ids_of,
)
from otel_llm_sessions.view.spans import ReceivedSpan

Key = tuple[str, str]
"""What ties traces: a kind (trace, session, response) and an id."""


class Packed:
    """Traces, and which of them belong together: those that name the same session, response, or one another."""

    def __init__(self) -> None:
        self._traces: list[bytes] = []
        self._held: set[str] = set()
        self._first: dict[int, int] = {}
        self._above: list[int] = []

    def __len__(self) -> int:
        return len(self._traces)

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._held

    def add(self, spans: Sequence[ReceivedSpan]) -> None:
        """Add a trace, or more of one that is already there."""
        place = len(self._traces)
        # Our own bytes, written a line ago by this process: nobody else's pickles are read here.
        self._traces.append(zlib.compress(pickle.dumps(spans, pickle.HIGHEST_PROTOCOL), 1))
        self._held.update(span.trace_id for span in spans)
        self._above.append(place)
        for key in _keys(spans):
            # Eight bytes of a key; two that are the same by chance cost a group that is larger than it has to be.
            self._join(place, self._first.setdefault(hash(key), place))

    def groups(self, since: int = 0) -> Iterator[tuple[list[int], list[ReceivedSpan]]]:
        """The spans of all traces, group by group, and which traces these are.

        Args:
            since: only groups that have a trace from this one on.
        """
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for place in range(len(self._traces)):
            groups[self._top(place)].append(place)
        for places in groups.values():
            if places[-1] >= since:
                yield places, [span for place in places for span in self._unpacked(place)]

    def _unpacked(self, place: int) -> list[ReceivedSpan]:
        return pickle.loads(zlib.decompress(self._traces[place]))  # type: ignore[no-any-return]

    def _top(self, place: int) -> int:
        while (above := self._above[place]) != place:
            self._above[place] = place = self._above[above]
        return place

    def _join(self, one: int, other: int) -> None:
        one, other = self._top(one), self._top(other)
        self._above[max(one, other)] = min(one, other)


def _keys(spans: Iterable[ReceivedSpan]) -> set[Key]:
    keys: set[Key] = set()
    for span in spans:
        keys.add(("trace", span.trace_id))
        if not (is_call(span) or is_root(span) or is_marker(span) or is_evaluation(span)):
            continue
        keys.update(("trace", link.trace_id) for link in span.links)
        keys.update(("session", named) for named in session_ids_of(span))
        keys.update(("response", said) for said in (response_id_of(span), previous_id_of(span)) if said)
    return keys
