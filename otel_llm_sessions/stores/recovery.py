"""Brings back a shared store that failed: what was not written, how long it rests, the thread that tries again."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from otel_llm_sessions import forks
from otel_llm_sessions.guard import is_applications, report
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.newest import is_newer
from otel_llm_sessions.stores.shared import Entry, SharedStore, StoreDown, StoreRefused

WITHDRAWN_AFTER = 1.0
"""Seconds for which a claim whose caller was cancelled is kept for this process's next turn, in case it was got."""

_BATCH = 200


class Rests:
    """How long a store that failed is left alone: longer each time, until it was well for the longest time."""

    def __init__(self, first: float, longest: float) -> None:
        self.longest = longest
        self._first = first
        self._times = 0
        self._over = 0.0

    def next(self) -> float:
        """Return how many seconds to wait now."""
        if time.monotonic() - self._over > self.longest:
            self._times = 0
        rest = min(self.longest, self._first * 4.0 ** min(self._times, 20))
        self._times += 1
        self._over = time.monotonic() + rest
        return rest


class _Withdrawal(NamedTuple):
    """A claim whose caller was cancelled before it had the answer."""

    token: bytes
    due: float


class _Runner:
    """A thread and what it waits with, all made of one kind of threads; see ``keeper``."""

    def __init__(self, run: Callable[[_Runner], None]) -> None:
        self._kind: object = threading.Lock
        self.wake = threading.Event()
        self.flushing = threading.Lock()
        self.thread = threading.Thread(target=run, args=(self,), name="otel-llm-sessions-store", daemon=True)

    @property
    def is_of_these_threads(self) -> bool:
        """Whether gevent or eventlet has not patched what threads are made of since."""
        return self._kind is threading.Lock


class Recovery:
    """The breaker, the backlog, and the thread that brings a store back."""

    def __init__(self, inner: SharedStore, known: MemoryStore, max_keys: int, rests: Rests) -> None:
        self.readable = True
        self.writable = True
        self._inner = inner
        self._known = known
        self._max_keys = max_keys
        self._rests = rests
        self._begin_anew()
        forks.renew_in_child(self)

    def _begin_anew(self) -> None:
        self._links: OrderedDict[str, SessionLink] = OrderedDict()
        self._claims: OrderedDict[str, None] = OrderedDict()
        self._withdrawals: OrderedDict[str, _Withdrawal] = OrderedDict()
        self._lock = threading.RLock()  # a signal's handler may make a call amid one
        self._runner: _Runner | None = None
        self._refill = False
        self._closed = False

    def after_fork_in_child(self) -> None:
        """Leave the backlog and the thread to the parent; ask the store anew."""
        self._begin_anew()
        self.readable = self.writable = True

    def failed(self, fault: BaseException) -> None:
        """Keep callers away from the store for a while: from writing only when it merely refused what was written.

        Raises:
            BaseException: ``fault`` itself, if it is none of the store's.
        """
        self._shut(fault)
        self.begin()

    def keep(self, keys: Sequence[str], link: SessionLink) -> None:
        """Put what was not written on the backlog; the oldest makes room."""
        with self._lock:
            for key in keys:
                self._links[key] = link
                self._links.move_to_end(key)
            while len(self._links) > self._max_keys:
                self._links.popitem(last=False)
        self.begin()

    def keep_claim(self, key: str) -> bool:
        """Put a claim on the backlog; returns True, the answer to who made it."""
        with self._lock:
            self._claims[key] = None
            while len(self._claims) > self._max_keys:
                self._claims.popitem(last=False)
        self.begin()
        return True

    def withdraw(self, key: str, token: bytes) -> None:
        """Put the withdrawal of a claim on the backlog, whether or not the store has the claim."""
        with self._lock:
            self._withdrawals[key] = _Withdrawal(token, time.monotonic() + WITHDRAWN_AFTER)
            while len(self._withdrawals) > self._max_keys:
                self._withdrawals.popitem(last=False)
        self.begin()

    def token_of(self, key: str) -> bytes:
        """Return the token to claim ``key`` with: that of a claim which was about to be withdrawn, else a new one."""
        with self._lock:
            withdrawal = self._withdrawals.pop(key, None) if self._withdrawals else None
        return withdrawal.token if withdrawal is not None else uuid.uuid4().bytes

    def unwritten(self, key: str) -> SessionLink | None:
        """Return what waits to be written under ``key``."""
        return self._links.get(key) if self._links else None

    def refill(self) -> None:
        """Write all this process knows: the store has lost what it held."""
        with self._lock:
            self._refill = True
        self.begin()

    def begin(self) -> None:
        """Start the thread, unless it runs; it first waits until the store has rested."""
        if self._closed or (self._runner is not None and self._runner.is_of_these_threads):
            return
        runner = _Runner(self._run)
        with self._lock:
            former = self._runner
            if former is not None and former.is_of_these_threads:
                return
            self._runner = runner
        if former is not None:
            former.wake.set()
        try:
            # Not under the lock: the garbage collector may run in the new thread before it has begun, and record there.
            runner.thread.start()
        except RuntimeError as error:  # the interpreter ends, or has no thread to spare: the next caller tries
            with self._lock:
                self._runner = None
            report("start the session store's recovery", error)

    def close(self) -> None:
        """Write what waits, once, and end the thread."""
        if self._closed:
            return
        self._closed = True
        runner = self._runner
        if runner is not None:
            runner.wake.set()
        if self._links or self._claims or self._withdrawals:
            self._attempt(runner if runner is not None and runner.is_of_these_threads else _Runner(self._run))

    def _run(self, runner: _Runner) -> None:
        while not runner.wake.wait(self._pause()):
            if self._attempt(runner):
                return

    def _pause(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        if not self.writable:
            return self._rests.next()
        with self._lock:
            if self._links or self._claims or self._refill or not self._withdrawals:
                return 0.0
            return max(0.0, next(iter(self._withdrawals.values())).due - time.monotonic())

    def _attempt(self, runner: _Runner) -> bool:
        """Return whether the store took all that waited; it is open to callers again then."""
        with runner.flushing:
            try:
                self._flush()
            except Exception as fault:
                self._shut(fault)
            return self._ended(runner)

    def _shut(self, fault: BaseException) -> None:
        """Let callers do without the store, and say so: once, whichever thread found out."""
        if is_applications(fault):
            raise fault
        if not self._closed:  # after the end nothing is said any more
            report(f"use the session store, which is left alone for {self._rests.longest:g} s at most", _plain(fault))
        # A store that refuses has answered: what it holds can be read.
        with self._lock:
            self.writable = False
            self.readable = isinstance(fault, StoreRefused)

    def _flush(self) -> None:
        if self._refill:
            self._refill = False
            self._keep_known()
        while batch := self._batch():
            self._write(batch)
        for claim in list(self._claims):
            self._inner.claim(claim)
            self._claims.pop(claim, None)
        while (due := self._due_withdrawal()) is not None:
            key, withdrawal = due
            self._inner.withdraw(key, withdrawal.token)
            with self._lock:
                if self._withdrawals.get(key) is withdrawal:
                    del self._withdrawals[key]
        if not (self.readable and self.writable):
            self._inner.get_all(("probe",))
            self.readable = self.writable = True

    def _due_withdrawal(self) -> tuple[str, _Withdrawal] | None:
        # It stays until it is done: who claims the key meanwhile claims with its token, and gets it.
        with self._lock:
            for key, withdrawal in list(self._withdrawals.items())[:1]:
                return (key, withdrawal) if self._closed or withdrawal.due <= time.monotonic() else None
        return None

    def _keep_known(self) -> None:
        known = self._known.snapshot()
        with self._lock:
            for key, link in known:
                self._links.setdefault(key, link)

    def _batch(self) -> list[Entry]:
        with self._lock:
            return list(islice(self._links.items(), _BATCH))

    def _write(self, batch: Sequence[Entry]) -> None:
        """Write what says something later than the store does; other processes have gone on meanwhile."""
        stored = self._inner.get_all([key for key, _ in batch])
        self._inner.put_all(
            [entry for entry, old in zip(batch, stored, strict=True) if old is None or is_newer(*entry, old)]
        )
        for key, link in batch:
            self._wrote(key, link)

    def _wrote(self, key: str, link: SessionLink) -> None:
        (latest,) = self._known.get_all((key,))
        with self._lock:
            if latest is not None and is_newer(key, latest, link):
                self._links[key] = latest  # written by a caller meanwhile, and perhaps just now replaced
            elif self._links.get(key) is link:
                del self._links[key]

    def _ended(self, runner: _Runner) -> bool:
        """Return whether there is nothing left to do, in which case the thread is no longer there."""
        with self._lock:
            done = self.writable and not (self._links or self._claims or self._withdrawals or self._refill)
            if done and self._runner is runner:
                self._runner = None
            return done


def _plain(fault: BaseException) -> BaseException:
    """Return a store's own fault without its traceback, which says nothing more and takes a caller's time to print."""
    if isinstance(fault, (StoreDown, StoreRefused)):
        fault.__traceback__ = fault.__cause__ = fault.__context__ = None
    return fault
