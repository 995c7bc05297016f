"""Stands in front of a shared store, so that one that is slow or down neither breaks nor holds up a call.

A cache answers alone what cannot have changed, and everything while the store rests; what is left is the keeper's.
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

from otel_llm_sessions.cheap import new
from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.keeper import NOT_ASKED, Keeper
from otel_llm_sessions.stores.memory import DEFAULT_MAX_KEYS, MemoryStore
from otel_llm_sessions.stores.newest import is_mutable, is_newer, may_be_given_again
from otel_llm_sessions.stores.shared import DEFAULT_TIME_LIMIT, Backend, Claim, Lookup, Put, StoreDown, StoreRefused

LONGEST_REST = 1.0
"""How long a store that keeps failing is left alone, in seconds; it is then asked beside all calls."""

FIRST_REST = 0.02
"""How long a store that was well is left alone, in seconds: most failures are hiccups. Each further rest is longer."""

Known = dict[str, SessionLink | None]


class GuardedStore:
    """A shared store that never raises, and never holds up a caller for longer than its time limit.

    While the store is down this process goes on from what it knows itself: sessions that it has met keep their ids and
    turns, and what it records is written when the store is back. ``claim`` then answers for this process alone, so that
    a session that two processes open at that time gets two root spans. Example::

        store = GuardedStore(SqliteBackend("/var/lib/app/sessions.db"))
        store.put(["r:resp_1"], link)
        [found] = store.get_all(["r:resp_1"])
    """

    waits = True

    def __init__(
        self,
        backend: Backend,
        *,
        max_keys: int = DEFAULT_MAX_KEYS,
        ttl: float | None = None,
        time_limit: float = DEFAULT_TIME_LIMIT,
        rest: float = LONGEST_REST,
        first_rest: float = FIRST_REST,
    ) -> None:
        """Put a guard before a shared store.

        Args:
            backend: where the store is.
            max_keys: how many keys this process remembers.
            ttl: for how many seconds it remembers them.
            time_limit: how long a caller is held up at most, in seconds.
            rest: how long a store that keeps failing is left alone, in seconds.
            first_rest: how long after its first failure.
        """
        self._ttl_ns = None if ttl is None else round(ttl * 1e9)
        self._known = MemoryStore(max_keys)
        self._keeper = Keeper(
            backend,
            self._known,
            max_keys=max_keys,
            time_limit=time_limit,
            first_rest=first_rest,
            longest_rest=rest,
        )
        _close_at_exit(self)
        weakref.finalize(self, self._keeper.dismiss).atexit = False

    @property
    def scope(self) -> str:
        """The same for all who share the store, once the store has answered; random before."""
        return self._keeper.scope

    @property
    def patience(self) -> float:
        """How long a call should wait for an answer, in seconds; 0 while the store is slow or does not answer.

        What is asked then is answered all the same, and tells when the store is quick again.
        """
        return self._keeper.pace.patience

    @property
    def lateness(self) -> float:
        """How late an answer was in the last half minute, in seconds: what others write may be as late."""
        return self._keeper.pace.lateness

    @property
    def is_up(self) -> bool:
        """Whether the store is asked and written to; False while it is left alone."""
        return self._keeper.readable and self._keeper.writable

    # Asked beside the call.

    def known(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return what this process alone knows under ``keys``; the store is not asked."""
        return [*map(self._unless_expired, self._known.get_all(keys))]

    def ask(self, keys: Sequence[str], within: float = 0.0) -> Answer[list[SessionLink | None]]:
        """Ask for the links of ``keys``, one per key in order, None where it is unknown. No failure is ever raised.

        The answer is there at once where this process knows what cannot have changed, and where the store is left
        alone; else it comes from the store. ``is_known`` is False where the store was not asked or failed: the links
        are then what this process knows. Who waits no longer cancels nothing; what comes late is remembered here.

        Args:
            keys: what is asked for.
            within: seconds for which a blocking caller may be held up, which is quicker than to wait for the answer
                afterwards. By default it is not.
        """
        known, open_keys = self._known_of(keys)
        if not (open_keys and self._keeper.readable):
            return Answer.of([known[key] for key in keys], is_known=not open_keys)
        look_up, begun = new(Lookup, (open_keys,)), time.monotonic()
        found = self._keeper.ask_itself(look_up, begun, within) if within else NOT_ASKED
        if found is not NOT_ASKED:
            is_known = self._merge(known, open_keys, found)
            return Answer.of([known[key] for key in keys], is_known=is_known)
        return self._keeper.hand_over((look_up,), begun, within).then(partial(self._found, keys, open_keys))

    def ask_and_put(self, keys: Sequence[str], record: Record) -> Answer[list[SessionLink | None]]:
        """As ``ask``, then ``put_soon``: both in one round trip, so that nothing of it waits for an answer.

        Args:
            keys: what is asked for, before anything is put.
            record: the keys under which something is remembered, and its link.
        """
        open_keys = self._known_of(keys)[1]
        if not (open_keys and self.is_up):
            answer = self.ask(keys)
            self.put_soon(*record)
            return answer
        self._known.put(*record)
        asks = Lookup(open_keys), Put([(key, record[1]) for key in record[0]])
        return self._keeper.hand_over(asks, time.monotonic(), 0.0).then(partial(self._found, keys, open_keys))

    def ask_claim(self, key: str, within: float = 0.0) -> Answer[bool]:
        """Ask for a claim: the answer is True to exactly one of all callers. No failure is ever raised.

        ``is_known`` is False where the store was not asked or failed: it is then an answer for this process alone. A
        claim whose caller is cancelled or interrupted while it waits is withdrawn, so that the next caller gets it; one
        whose caller merely waits no longer is not, and who is given it late has it.

        Args:
            key: what is claimed.
            within: as in ``ask``.
        """
        if not self._known.claim(key):
            return Answer.of(False)
        token = self._keeper.token_of(key)
        if not self._keeper.writable:
            self._keeper.keep_claim(key, token)
            return Answer.of(True, is_known=False)
        try:
            return self._keeper.ask(Claim(key, token), within).then(_got, lambda: self._withdraw(key, token))
        except BaseException:
            self._withdraw(key, token)
            raise

    def ask_put(self, keys: Sequence[str], link: SessionLink, within: float = 0.0) -> Answer[None]:
        """Have ``link`` remembered under each of ``keys``; the answer says that the store has it.

        It is there at once where the store is left alone: it gets it later.
        """
        return self._put(keys, link, within) or Answer.of(None, is_known=False)

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, from where nothing may wait (a garbage collector, a cancelled task): it is written beside."""
        self._put(keys, link, 0.0)

    # The protocol of a store.

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return for each of ``keys``, in order, its link, or None where it is unknown."""
        known, open_keys = self._known_of(keys)
        if open_keys and self._keeper.readable:
            look_up, begun, limit = new(Lookup, (open_keys,)), time.monotonic(), self._keeper.pace.limit
            found = self._keeper.ask_itself(look_up, begun, limit) if limit else NOT_ASKED
            if found is NOT_ASKED:
                answer = self._keeper.hand_over((look_up,), begun, limit).then(partial(self._found, keys, open_keys))
                return answer.result() if answer.is_done else [known[key] for key in keys]
            self._merge(known, open_keys, found)
        return [known[key] for key in keys]

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``."""
        self._put(keys, link, self._keeper.pace.limit)

    def claim(self, key: str) -> bool:
        """Return True to exactly one of all callers that claim ``key``; of this process's while the store is down."""
        answer = self.ask_claim(key, self._keeper.pace.limit)
        return answer.result() if answer.is_done else True

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        answer = self.ask(keys)
        return answer.result() if await self._comes(answer) else self.known(keys)

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop; what a cancelled caller recorded is written all the same."""
        written = self._put(keys, link, 0.0)
        if written is not None:
            await self._comes(written)

    async def aclaim(self, key: str) -> bool:
        """As ``claim``, for callers on an event loop."""
        answer = self.ask_claim(key)
        return answer.result() if await self._comes(answer) else True

    def write_out(self, seconds: float) -> None:
        """Wait until what was put is written, if the store takes it now, and for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while self.is_up and (asked := self._keeper.all_asked()) is not None:
            # The backlog follows what waits, part by part.
            if not asked.wait(deadline - time.monotonic()) or self._keeper.backlog.due_in() != 0.0:
                return

    def close(self) -> None:
        """Write what waits, if the store takes it now, and release connections."""
        self._keeper.close()

    def _put(self, keys: Sequence[str], link: SessionLink, within: float) -> Answer[None] | None:
        self._known.put(keys, link)
        entries = [(key, link) for key in keys]
        if self._keeper.writable:
            return self._keeper.ask(Put(entries), within) if entries else None
        self._keeper.keep(entries)
        return None

    async def _comes(self, answer: Answer[Any]) -> bool:
        if answer.is_done:
            return True
        seconds = self._keeper.pace.limit
        if await answer.wait_on_loop(seconds):
            return True
        self._keeper.pace.late(seconds)
        return False

    def _withdraw(self, key: str, token: bytes) -> None:
        # Who is interrupted opens nothing; the store may have the claim already, and nobody else would get it.
        self._known.withdraw(key)
        self._keeper.withdraw(key, token)

    def _found(
        self, keys: Sequence[str], open_keys: Sequence[str], answer: Answer[list[SessionLink | None]]
    ) -> list[SessionLink | None]:
        """Return what is known now that the store has answered, or has failed."""
        known = self._known_now(keys)
        try:
            found: Any = answer.result()
        except Exception as fault:
            found = fault
        self._merge(known, open_keys, found)
        return [known[key] for key in keys]

    def _known_now(self, keys: Sequence[str]) -> Known:
        return dict(zip(keys, self.known(keys), strict=True))

    def _known_of(self, keys: Sequence[str]) -> tuple[Known, list[str]]:
        """Return what this process knows, and of which keys the store may know better."""
        known: Known = {}
        open_keys = []
        links = self._known.get_all(keys)
        for at, key in enumerate(keys):  # a strict zip takes as long as to read a field of a record
            link = links[at]
            known[key] = None if link is None else self._unless_expired(link)
            if link is None or not _is_settled(key, known[key]):
                open_keys.append(key)
        return known, open_keys

    def _unless_expired(self, link: SessionLink | None) -> SessionLink | None:
        if link is None or self._ttl_ns is None:
            return link
        return link if time.time_ns() - (link.end or link.start) <= self._ttl_ns else None

    def _merge(self, known: Known, keys: Sequence[str], found: Any) -> bool:
        """Add what was found to what is known, and remember it; return whether it is no fault."""
        if isinstance(found, BaseException):
            if not isinstance(found, (StoreDown, StoreRefused)):  # of those the keeper has told
                report("look a session up", found)
            return False
        waiting = self._keeper.backlog.link_of
        for at, key in enumerate(keys):
            link, mine = found[at], known[key]
            if (unwritten := waiting(key)) is not None:
                mine = _newest(key, unwritten, mine)
            if link is None or link == mine:  # the same: most often of a session whose turns this process makes
                known[key] = mine
            elif mine is None or not is_newer(key, mine, link):
                known[key] = link
                self._known.put((key,), link)
            else:
                # The store does not have what was written last (it was late, or failed over): it is told again.
                known[key] = mine
                self._keeper.keep(((key, mine),))
        return True


def _got(answer: Answer[bool]) -> bool:
    """Return whether a claim was got; this process alone decides where the store cannot."""
    try:
        return answer.result()
    except Exception:  # of which the keeper has told
        return True


def _is_settled(key: str, link: SessionLink | None) -> bool:
    """Whether what is known here can no longer change anywhere."""
    if link is None or not link.end or link.source == "chain_partial":
        return False
    return not is_mutable(key) and not may_be_given_again(key)


def _newest(key: str, one: SessionLink, other: SessionLink | None) -> SessionLink:
    return one if other is None or is_newer(key, one, other) else other


def _close_at_exit(store: GuardedStore) -> None:
    """Give what waits a last chance when the interpreter ends, without keeping the store alive until then."""
    living = weakref.ref(store)

    def close() -> None:
        remaining = living()
        if remaining is not None:
            remaining.close()

    atexit.register(close)
    weakref.finalize(store, atexit.unregister, close).atexit = False
