"""Sessions whose turns many processes make, and what is wrong with what arrived of them: words for `fleet.py`."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fleet import Fleet
from traces_kit import linked as links
from traces_kit import ref

from otel_llm_sessions.view.spans import ReceivedSpan

KINDS = ("chain", "requests", "named", "named chat", "named at once", "streamed")
OPEN_SESSIONS = 200
"""Sessions that go on at the same time."""
CALLS_AT_ONCE = 16
Down = tuple[float, float]
"""From when to when, in nanoseconds since the epoch."""
NEVER: Down = (0.0, 0.0)
UNHEARD = 0.5e9
"""Nanoseconds: of what was written so long before a master died its replica may not have heard."""
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
        self.begun = 0
        """How many turns have been ordered."""
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

    def run(self, turns: float = math.inf) -> None:
        """Make turns until all are made, or until so many have been begun: the last of those are then in flight."""
        while self.begun < turns and (self._waiting or self._open or self._in_flight):
            while len(self._in_flight) < CALLS_AT_ONCE and (session := self._next()):
                self._in_flight[self._order(session)] = session, len(session.responses)
                self.begun += 1
                session.responses.append("")
                self._keep_open(session, goes_on=not session.is_ordered)
            if self.begun >= turns:
                return
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


def mistakes(spans: list[ReceivedSpan], sessions: list[Session], down: Down = NEVER) -> list[str]:
    """Compare what arrived with what the application knows; return what is wrong, in words.

    Args:
        spans: what arrived.
        sessions: what the application knows.
        down: from when on what a part of the store held may be lost, and when all was to be right again. A turn made
            meanwhile may say ``chain_partial``, later ones only where what is before them may be lost, and who follows
            such a turn may be in its session, or in one that is named by an earlier turn of its own conversation, where
            what corrected that was lost with the part. Nobody can count the turns of a named session then, or say who
            opens its root.
    """
    found: list[str] = []
    roots, calls, markers = defaultdict(list), {}, defaultdict(list)
    for span in spans:
        if span.name == "session":
            roots[span.attributes.get("session.id")].append(span)
        elif span.name == "turn":
            markers[links(span, None)[0]].append(span)
        elif span.name.startswith("chat "):
            calls[span.attributes.get("gen_ai.response.id")] = span
    doubtful = {root.trace_id for root in sum(roots.values(), []) if is_in(down, root)}
    found += twice(span for span in spans if span.name != "session" or span.trace_id not in doubtful)
    expected = 0
    for session in sessions:
        expected += 1 + len(session.responses) + 2 * sum(session.nested)
        if any(response in calls and is_in(down, calls[response]) for response in session.responses):
            found += wrong_names(session, calls, down)
            continue
        own = roots[session.id]
        if [root.parent_id for root in own] != [""]:
            found.append(f"{session.kind} {session.id}: {len(own)} roots")
        if own:
            found += wrong_turns(session, own[0], calls, markers)
    expected += sum(not call.parent_id for call in calls.values())  # the markers of those whose answers were late
    if down == NEVER and len(spans) != expected:
        found.append(f"{len(spans)} spans instead of {expected}")
    return found


def is_in(down: Down, span: ReceivedSpan) -> bool:
    return down[0] <= span.start < down[1]


def twice(spans: Iterable[ReceivedSpan]) -> Iterator[str]:
    """Say which spans are there twice, and which traces have two roots."""
    senders, in_trace = defaultdict(list), Counter[str]()
    for span in spans:
        senders[ref(span)].append(span.resource["service.instance.id"])
        in_trace[span.trace_id] += span.name == "session"
    yield from (f"{key} arrived more than once: from {pids}" for key, pids in senders.items() if len(pids) > 1)
    ids = Counter(span_id for _, span_id in senders)
    yield from (f"{number} spans have the id {key}" for key, number in ids.items() if number > 1)
    yield from (f"{number} roots in the trace {trace}" for trace, number in in_trace.items() if number > 1)


def wrong_names(session: Session, calls: dict[Any, ReceivedSpan], down: Down) -> Iterator[str]:
    """Say what is wrong with a session of which turns were made while a part of the store was down."""
    before: list[tuple[str, str]] = []
    partial, may_be_lost, was_down = None, False, False
    for number, response_id in enumerate(session.responses, 1):
        here, call = f"{session.kind} {session.id} turn {number}", calls.get(response_id)
        if call is None:
            yield f"{here}: it did not arrive"
            continue
        linked, before = before, [ref(call)]
        source, name = call.attributes.get("llm_session.source"), call.attributes.get("session.id")
        names_an_earlier_turn = was_down and name != session.id and name in session.responses[: number - 1]
        if names_an_earlier_turn or (source == "chain_partial" and (is_in(down, call) or may_be_lost)):
            partial = name
        elif partial is None or name != partial:
            partial = None
            if name != session.id:
                yield f"{here}: session.id is {name}, by {source}"
            if session.name is None and call.attributes.get("llm_session.turn") != number:
                yield f"{here}: llm_session.turn is {call.attributes.get('llm_session.turn')}"
            if session.name is None and links(call, "previous_turn") != linked:
                yield f"{here}: linked to {links(call, 'previous_turn')}, not to {linked}"
        may_be_lost |= down[0] <= call.start < down[0] + 2 * UNHEARD
        was_down |= is_in(down, call)


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
