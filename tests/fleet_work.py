"""Sessions whose turns many processes make, and what is wrong with what arrived of them: words for `fleet.py`."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fleet import Fleet
from traces_kit import ref

from otel_llm_sessions.view.spans import ReceivedSpan

KINDS = ("chain", "requests", "named", "named chat", "named at once", "streamed")
OPEN_SESSIONS = 200
"""Sessions that go on at the same time."""
CALLS_AT_ONCE = 16
PATIENT = 5.0
"""The store's time limit: on a machine that has too much to do it is late now and then, and what is late amends."""


@dataclass
class Session:
    """A session as the application knows it: what it asked for, and which responses it got."""

    kind: str
    name: str | None
    """The id that the application gave it; a chain's is that of its first response."""
    responses: list[str] = field(default_factory=list)
    """One for each turn; empty while the turn goes on."""
    nested: list[bool] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.name or self.responses[0]

    @property
    def is_ordered(self) -> bool:
        """Whether each turn begins after the one before it."""
        return self.kind != "named at once"


@contextmanager
def loopback_process() -> Iterator[str]:
    """The loopback server in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "otel_llm_sessions.demo.provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


# --- the application --------------------------------------------------------------------------------------------


class Work:
    """Makes sessions' turns, each in a process chosen at random, many at once."""

    def __init__(self, fleet: Fleet, number: int, turns: int, chance: random.Random, name: str = "shop") -> None:
        self._name = name
        self.sessions = [self._session(index) for index in range(number)]
        self._fleet = fleet
        self._turns = turns
        self._chance = chance
        self._waiting = list(self.sessions[::-1])
        self._open: list[Session] = []
        self._in_flight: dict[int, tuple[Session, int]] = {}

    def _session(self, index: int) -> Session:
        kind = KINDS[index % len(KINDS)]
        return Session(kind, f"{self._name}-{index}" if kind.startswith("named") else None)

    def run(self) -> None:
        while self._waiting or self._open or self._in_flight:
            while len(self._in_flight) < CALLS_AT_ONCE and (session := self._next()):
                self._in_flight[self._order(session)] = session, len(session.responses)
                session.responses.append("")
                self._keep_open(session, goes_on=not session.is_ordered)
            answer = self._fleet.next_answer()
            assert answer["error"] is None, answer["error"]
            session, turn = self._in_flight.pop(answer["order"])
            session.responses[turn] = answer["response"]
            self._keep_open(session, goes_on=session.is_ordered)

    def _keep_open(self, session: Session, goes_on: bool) -> None:
        if goes_on and len(session.responses) < self._turns:
            self._open.append(session)

    def _next(self) -> Session | None:
        """Take a session whose next turn is to be made."""
        if self._open and not self._open[-1].is_ordered:
            return self._open.pop()
        if self._waiting and len(self._open) + len(self._in_flight) < OPEN_SESSIONS:
            return self._waiting.pop()
        if not self._open:
            return None
        place = self._chance.randrange(len(self._open))
        self._open[place], self._open[-1] = self._open[-1], self._open[place]
        return self._open.pop()

    def _order(self, session: Session) -> int:
        chance, arguments = self._chance, {}
        api = "chat" if session.kind == "named chat" else "responses"
        if session.name is not None:
            arguments["metadata"] = {"session_id": session.name}
        elif session.responses:
            arguments["previous_response_id"] = session.responses[-1]
        if session.kind == "streamed" or chance.random() < 0.1:
            arguments["stream"] = True
        arguments["messages" if api == "chat" else "input"] = (
            [{"role": "user", "content": "Hello"}] if api == "chat" else "Hello"
        )
        session.nested.append(session.kind in ("requests", "named chat", "named at once") and chance.random() < 0.5)
        around = "GET /chat" if session.nested[-1] else None
        return self._fleet.order(chance.randrange(len(self._fleet.workers)), api, arguments, around)


# --- what arrived -----------------------------------------------------------------------------------------------


def links(span: ReceivedSpan, kind: str | None) -> list[tuple[str, str]]:
    return [ref(link) for link in span.links if link.attributes.get("llm_session.link") == kind]


def mistakes(spans: list[ReceivedSpan], sessions: list[Session], excused: Sequence[Session] = ()) -> list[str]:
    """Compare what arrived with what the application knows; return what is wrong, in words, but of who is excused."""
    found: list[str] = []
    of_others = {response for session in excused for response in session.responses}
    their_names = {session.name for session in excused if session.name} | of_others
    if excused:
        spans = [
            span
            for span in spans
            if span.attributes.get("gen_ai.response.id") not in of_others
            and span.attributes.get("session.id") not in their_names
        ]
    senders = defaultdict(list)
    for span in spans:
        senders[ref(span)].append(span.resource["service.instance.id"])
    found += [f"{key} arrived more than once: from {pids}" for key, pids in senders.items() if len(pids) > 1]
    found += [
        f"{number} spans have the id {key}" for key, number in Counter(s.span_id for s in spans).items() if number > 1
    ]
    roots, calls, markers = defaultdict(list), {}, defaultdict(list)
    for span in spans:
        if span.name == "session":
            roots[span.attributes.get("session.id")].append(span)
        elif span.name == "turn":
            markers[links(span, None)[0]].append(span)
        elif span.name.startswith("chat "):
            calls[span.attributes.get("gen_ai.response.id")] = span
    in_trace = Counter(root.trace_id for root in sum(roots.values(), []))
    found += [f"{number} roots in the trace {trace}" for trace, number in in_trace.items() if number > 1]
    expected = 0
    for session in sessions:
        expected += 1 + len(session.responses) + 2 * sum(session.nested)
        own = roots[session.id]
        if [root.parent_id for root in own] != [""]:
            found.append(f"{session.kind} {session.id}: {len(own)} roots")
        if own:
            found += wrong_turns(session, own[0], calls, markers)
    expected += sum(not call.parent_id for call in calls.values())  # the markers of those whose answers were late
    if not excused and len(spans) != expected:
        found.append(f"{len(spans)} spans instead of {expected}")
    return found


def wrong_turns(session: Session, root: ReceivedSpan, calls: dict[Any, Any], markers: dict[Any, Any]) -> Iterator[str]:
    """Say what is wrong with the turns of a session."""
    before: list[tuple[str, str]] = []
    for number, (response_id, nested) in enumerate(zip(session.responses, session.nested), 1):
        here = f"{session.kind} {session.id} turn {number}"
        call = calls.get(response_id)
        if call is None:
            yield f"{here}: it did not arrive"
            continue
        # A call whose answer was late began where it could stand without it, and has a marker as nested ones have.
        stands_alone = nested or not call.parent_id
        shown = markers[ref(call)] if stands_alone else [call]
        if len(shown) != 1 or len(markers[ref(call)]) != stands_alone:
            yield f"{here}: {len(markers[ref(call)])} markers"
        for span in {ref(span): span for span in (call, *shown)}.values():
            if span.attributes.get("session.id") != session.id:
                yield f"{here}: session.id of {span.name} is {span.attributes.get('session.id')}"
            if session.is_ordered and span.attributes.get("llm_session.turn") != number:
                yield f"{here}: llm_session.turn of {span.name} is {span.attributes.get('llm_session.turn')}"
        if any((span.trace_id, span.parent_id) != ref(root) for span in shown):
            yield f"{here}: it does not stand below its session's root"
        if stands_alone and call.trace_id == root.trace_id:
            yield f"{here}: it left the trace of its request"
        if session.is_ordered and links(call, "previous_turn") != before:
            yield f"{here}: linked to {links(call, 'previous_turn')}, not to {before}"
        before = [ref(call)]
