"""The store of one process: a bounded LRU."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence

from otel_llm_sessions import forks
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.newest import MUTABLE_KINDS, goes_back

DEFAULT_MAX_KEYS = 50_000


class MemoryStore:
    """Keeps the most recently used evidence keys of this process; thread-safe, lost when the process ends."""

    waits = False
    patience = 0.0
    lateness = 0.0

    def __init__(self, max_keys: int = DEFAULT_MAX_KEYS) -> None:
        self.scope = uuid.uuid4().hex
        self._max_keys = max_keys
        # By hand, unlike what is asked less often: a ``Bounded`` makes a record take a tenth longer.
        self._links: OrderedDict[str, SessionLink] = OrderedDict()
        self._known_by, self._renew = self._links.get, self._links.move_to_end  # bound once: each call takes both
        self._claims: Bounded[str, None] = Bounded(max_keys)
        self._lock = threading.RLock()  # a signal's handler may make a call amid one
        forks.renew_in_child(self)

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return for each of ``keys``, in order, its link, or None where it is unknown."""
        return [*map(self.find, keys)]

    def find(self, key: str) -> SessionLink | None:
        """Return the link of one key; None where it is unknown."""
        # Without the lock, which takes half of a look-up: nothing here interrupts the two steps of C code themselves.
        link = self._known_by(key)
        if link is not None:
            try:
                self._renew(key)
            except KeyError as error:  # another thread needed the room
                pass_on(error)
        return link

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``; the least recently used keys make room."""
        links = self._links
        for key in keys:
            if key[0] in MUTABLE_KINDS:  # other turns set it, too, and none is to set its session back
                with self._lock:
                    known = self._known_by(key)
                    if known is None or link.turn > known.turn or not goes_back(key, link, known):
                        links[key] = link
                    self._make_newest(key)
                continue
            # Without the lock, which takes half of a record: no other turn sets such a key, and each step is one of C.
            if key in links:
                self._make_newest(key)
            links[key] = link
        if len(links) > self._max_keys:
            self._make_room()

    def _make_newest(self, key: str) -> None:
        try:
            self._renew(key)
        except KeyError as error:  # another thread needed the room
            pass_on(error)

    def _make_room(self) -> None:
        links = self._links
        while len(links) > self._max_keys:
            try:
                links.popitem(last=False)
            except KeyError as error:  # another thread was faster
                pass_on(error)
                return

    def claim(self, key: str) -> bool:
        """Return True to the first caller of this process that claims ``key``."""
        with self._lock:
            if key in self._claims:
                self._claims.renew(key)
                return False
            self._claims[key] = None
            return True

    def known(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``."""
        return self.get_all(keys)

    def ask(self, keys: Sequence[str], within: float = 0.0) -> Answer[list[SessionLink | None]]:
        """As ``get_all``: the answer is there at once."""
        return Answer.of(self.get_all(keys))

    def ask_and_put(self, keys: Sequence[str], record: Record) -> Answer[list[SessionLink | None]]:
        """As ``ask``, then ``put``."""
        answer = self.ask(keys)
        self.put(*record)
        return answer

    def ask_claim(self, key: str, within: float = 0.0) -> Answer[bool]:
        """As ``claim``: the answer is there at once."""
        return Answer.of(self.claim(key))

    def ask_put(self, keys: Sequence[str], link: SessionLink, within: float = 0.0) -> Answer[None]:
        """As ``put``: it never waits for I/O."""
        self.put(keys, link)
        return Answer.of(None)

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``: it never waits for I/O."""
        self.put(keys, link)

    def withdraw(self, key: str) -> None:
        """Leave ``key`` to the next caller that claims it."""
        with self._lock:
            self._claims.pop(key, None)

    def snapshot(self) -> list[tuple[str, SessionLink]]:
        """Return all that is known, the least recently used first."""
        with self._lock:
            while True:
                try:
                    return list(self._links.items())
                except RuntimeError as error:  # a look-up has renewed a key amid it
                    pass_on(error)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._links.clear()
            self._claims.clear()

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``: it never waits for I/O."""
        return self.get_all(keys)

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``: it never waits for I/O."""
        self.put(keys, link)

    async def aclaim(self, key: str) -> bool:
        """As ``claim``: it never waits for I/O."""
        return self.claim(key)

    def after_fork_in_child(self) -> None:
        """Begin anew as the store of another process, which keeps what its parent knew."""
        # A lock held by another thread at the fork would stay locked in the child for ever; and the child is
        # a process of its own, with a scope of its own, so that its session roots are its own too.
        self._lock = threading.RLock()
        self.scope = uuid.uuid4().hex
        self._claims.clear()
