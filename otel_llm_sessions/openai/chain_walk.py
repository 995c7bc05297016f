"""The way from a response up its chain to what names its session; pure: whoever asks the provider tells the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from otel_llm_sessions.openai.carried import Carried, read
from otel_llm_sessions.openai.fields import conversation_id_in, field, mapping, text
from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.link import Record, SessionId, SessionLink, SessionTrace, Source, SpanRef
from otel_llm_sessions.sessions.names import id_of, is_made, name_of_conversation, name_of_response
from otel_llm_sessions.sessions.sources import first_id
from otel_llm_sessions.telemetry.values import text_of

MAX_STEPS: Final = 50
"""How many responses of a chain are retrieved at most."""

UNKNOWN_SPAN: Final = SpanRef(0, 0, 0)
NANOSECONDS: Final = 1_000_000_000


class Step(NamedTuple):
    """One response of the chain, as the provider tells of it."""

    place: int
    """How many turns it is before the one that the walk began at."""
    asked: str
    """The id that it was asked for by: the one that the application got when it was made."""
    ids: tuple[str, ...]
    """All ids that it goes by: a gateway answers with another one than was asked for."""
    carried: Carried
    start: int
    end: int
    model: str


class Passed(NamedTuple):
    """A turn of which the store knows no more than that it belongs to another, unknown one."""

    place: int
    asked: str
    link: SessionLink


class Named(NamedTuple):
    """What names the session of a chain."""

    session_id: SessionId
    source: Source
    place: int
    """Where it was found; see ``Step``."""
    turn: int | None
    """The turn there; None if it is not known."""
    trace: SessionTrace | None


class Walk:
    """A walk up one chain, step by step."""

    def __init__(self, previous_id: str, metadata_keys: Sequence[str], server: str, key: str | None = None) -> None:
        """Begin at a response.

        Args:
            previous_id: its id, as a request names it.
            metadata_keys: under which names of its ``metadata`` a session is named.
            server: what the provider is called in names.
            key: the setting ``KEY``: what responses carry has to be sealed with it.
        """
        self.asking: str | None = previous_id
        """The id to look up next, in the store and then at the provider; None when the walk is over."""
        self.previous_id = previous_id
        self._metadata_keys = metadata_keys
        self._server = server
        self._key = key
        self._place = 0
        self._steps: list[Step] = []
        self._passed: list[Passed] = []
        self._seen = {previous_id}
        self._named: Named | None = None
        self._known: SessionLink | None = None
        self._made: Named | None = None
        self._is_complete = False
        self._has_given_up = False

    def know(self, link: SessionLink) -> bool:
        """Take in what the store has of the response that was to be asked for; return whether that says anything."""
        if link.source == "chain_partial":
            return self._pass(link)
        named = self._named or Named(link.session_id, link.source, 0, None, None)
        trace = link.trace if link.session_id == named.session_id else None
        self._named = named._replace(place=self._place, turn=link.turn, trace=named.trace or trace)
        self._known = link
        self._end(complete=True)
        return True

    def take(self, reply: Any) -> None:
        """Take in the response that was asked for, as a JSON object or a model."""
        asked = self.asking
        assert asked is not None
        step = _step(self._place, asked, reply, self._key)
        self._steps.append(step)
        self._name(step, reply)
        said = text(field(reply, "previous_response_id"))
        if self._named is not None and self._named.turn is not None:
            self._end(complete=True)
        elif said is None:
            self._begin_of_chain(step)
        else:
            self._go_on(id_of(said), 1)

    def lose(self, *, gone: bool) -> None:
        """Take in that the response that was asked for cannot be had.

        Args:
            gone: whether the provider said that it has no such response, and so would say it again: then it names the
                session, as it would for everybody.
        """
        oldest = self.asking
        if self._named is None and gone and oldest is not None and self._steps:
            name = name_of_response(oldest, self._server)
            self._named = self._made or Named(name, "chain_partial", self._place, 1, None)
        self._end(complete=self._named is not None and self._named.source != "chain_partial")

    @property
    def is_complete(self) -> bool:
        """Whether the session is known for certain."""
        return self._is_complete

    def previous(self) -> SessionLink | None:
        """Return the turn that the walk began at; None if its session is not known."""
        turns = self._turns()
        return turns[0][1] if turns else self._known

    def records(self, server: str) -> list[Record]:
        """Return what is to be remembered of the responses on the way, under every id they go by.

        Args:
            server: the server's address, which scopes ids that are not one of a kind.
        """
        turns = self._turns() if self._is_complete else []
        return [([response_key(id_, server) for id_ in ids], link) for ids, link in turns]

    @property
    def answered(self) -> str | None:
        """The first id that the provider has answered; None if it has answered none."""
        return self._steps[0].asked if self._steps else None

    @property
    def is_endless(self) -> bool:
        """Whether the walk is over because the chain has too many responses, or none that is the first."""
        return self.asking is None and self._named is None and self._has_given_up

    def _pass(self, link: SessionLink) -> bool:
        """Go on at the response that names a turn's session for want of a better name."""
        assert self.asking is not None
        if link.session_id == self.asking:
            return False
        if is_made(link.session_id):
            # No provider knows it by that name. The turn itself tells which response is before it; where it does not,
            # the session keeps the name that it has.
            self._made = self._made or Named(link.session_id, link.source, self._place, link.turn, link.trace)
            return False
        self._passed.append(Passed(self._place, self.asking, link))
        self._go_on(link.session_id, max(1, link.turn - 1))
        return True

    def _go_on(self, previous: str | None, turns: int) -> None:
        if previous is None or previous in self._seen or len(self._steps) == MAX_STEPS:
            self._has_given_up = True
            return self._end(complete=self._named is not None)
        self._seen.add(previous)
        self._place += turns
        self.asking = previous

    def _end(self, *, complete: bool) -> None:
        self.asking = None
        self._is_complete = complete

    def _name(self, step: Step, reply: Any) -> None:
        """Note a session that the response names; the newest response that names one wins."""
        carried = step.carried
        if self._named is not None:
            if carried.turn is not None:
                self._named = self._named._replace(place=step.place, turn=carried.turn)
            return
        given = carried.session_id or first_id(mapping(field(reply, "metadata")), self._metadata_keys)
        source: Source = carried.source or "metadata"
        if given is None:
            given, source = _conversation(reply, self._server), "conversation"
        if given is not None:
            self._named = Named(given, source, step.place, carried.turn, carried.trace)

    def _begin_of_chain(self, step: Step) -> None:
        if self._named is None:
            name = name_of_response(step.asked, self._server, step.carried.span)
            self._named = Named(name, "new", step.place, 1, step.carried.trace)
        else:
            self._named = self._named._replace(place=step.place, turn=1)
        self._end(complete=True)

    def _turns(self) -> list[tuple[tuple[str, ...], SessionLink]]:
        """Return the ids and the link of each turn on the way, the newest first."""
        named = self._named
        if named is None:
            return []
        traces = [step.carried.trace for step in self._steps if step.carried.trace is not None]
        trace = traces[0] if traces else named.trace
        # A chain that was not walked to its beginning has had at least the turns that were seen.
        oldest = max([step.place for step in self._steps] + [passed.place for passed in self._passed], default=0)
        base, turn = (named.place, named.turn) if named.turn is not None else (oldest, 1)

        def turn_at(place: int) -> int:
            return max(1, turn + base - place)

        found = [
            (
                step.place,
                step.ids,
                SessionLink(
                    named.session_id,
                    named.source,
                    turn_at(step.place),
                    step.carried.span or UNKNOWN_SPAN,
                    step.start,
                    step.end,
                    step.model,
                    response_id=step.asked,
                    trace=trace,
                ),
            )
            for step in self._steps
        ]
        for place, asked, link in self._passed:
            right = link._replace(session_id=named.session_id, source=named.source, turn=turn_at(place), trace=trace)
            found.append((place, (asked,), right))
        return [(ids, link) for _, ids, link in sorted(found, key=lambda turn: turn[0])]


def is_response(reply: Any) -> bool:
    """Whether what came back is a response: servers send HTML, a message or nothing with status 200."""
    return text(field(reply, "id")) is not None


def _step(place: int, asked: str, reply: Any, key: str | None) -> Step:
    got = id_of(field(reply, "id"))
    created, completed = (_nanoseconds(field(reply, name)) for name in ("created_at", "completed_at"))
    carried = read(mapping(field(reply, "metadata")), key)
    start = carried.start or created
    ids = (asked, got) if got is not None and got != asked else (asked,)
    model = text_of(field(reply, "model")) or ""
    return Step(place, asked, ids, carried, start, max(start, completed), model)


def _nanoseconds(seconds: Any) -> int:
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < 1 << 33
    return int(seconds * NANOSECONDS) if known else 0


def _conversation(reply: Any, server: str) -> SessionId | None:
    id_ = conversation_id_in(field(reply, "conversation"))
    return name_of_conversation(id_, server) if id_ is not None else None
