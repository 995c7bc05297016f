"""One keeper per shared store and process: it owns the connection, and is the only one to use it.

Its thread asks what callers want, all that waits in one round trip or transaction; a blocking caller that finds the
connection free makes its own. The keeper leaves a store that fails alone for a while, and asks it again beside all
calls; what was not written lies on its backlog until the store takes it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from otel_llm_sessions import forks
from otel_llm_sessions.guard import is_applications, report
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.backlog import Backlog
from otel_llm_sessions.stores.crew import Crew, Job
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.outcomes import answer_of, is_well, plain, raised, says_more
from otel_llm_sessions.stores.pace import Breaker, Pace
from otel_llm_sessions.stores.shared import Ask, Backend, Claim, Entry, Lookup, Put, StoreDown, StoreRefused

MAX_WAITING = 1_000

_IDLE = 0.1
"""Seconds without work after which the thread tidies up."""

_TURN_LOST = 1.0
"""Seconds after which, beyond its limit, a caller never gives its turn back: a signal's handler has cut it off."""

TOGETHER = 1.0
"""Seconds for which no caller asks by itself after one had no answer in time: each time the connection is made anew."""

_PROBE = Lookup(("probe",))

NOT_ASKED: Final = object()
"""What comes of what a caller did not ask itself."""


class Keeper:
    """Asks a shared store for all callers of a process; nothing here raises but what is the application's."""

    def __init__(
        self,
        backend: Backend,
        known: MemoryStore,
        *,
        max_keys: int,
        time_limit: float,
        first_rest: float,
        longest_rest: float,
    ) -> None:
        """Args: where the store is, what this process knows, how much waits at most, and limits in seconds."""
        self._backend = backend
        self._known = known
        self._max_keys = max_keys
        self._time_limit = time_limit
        self._breaker_limits = first_rest, longest_rest
        self._begin_anew()
        forks.renew_in_child(self)

    def _begin_anew(self) -> None:
        self.readable = self.writable = True
        """Whether callers ask the store, and whether they write to it, or do without."""
        self.backlog = Backlog(self._max_keys)
        self.pace = Pace(self._time_limit)
        self._breaker = Breaker(*self._breaker_limits)
        self._crew: Crew | None = None
        self._lock = threading.RLock()  # a signal's handler may make a call amid one
        self._refill = self._is_closed = False
        self._together_until = 0.0
        """Until when callers leave it to the thread to ask."""

    def after_fork_in_child(self) -> None:
        """Leave connection, thread, backlog and callers to the parent; ask the store anew."""
        crew = self._crew
        former = self._backend if crew is None else crew.backend
        forks.leave_to_parent(crew, former)
        self._backend = former.in_child()
        self._begin_anew()

    @property
    def scope(self) -> str:
        """The same for all who share the store, once it has answered; random before."""
        return self._backend.scope

    # What callers ask.

    def ask(self, ask: Ask, seconds: float = 0.0) -> Answer[Any]:
        """Return the answer to ``ask``, which may come late. What is asked is done, whoever waits for it.

        Args:
            ask: what is asked.
            seconds: how long the caller may be held up: it makes the round trip itself where it can, or waits for it.
        """
        begun = time.monotonic()
        outcome = self.ask_itself(ask, begun, seconds) if seconds else NOT_ASKED
        return self.hand_over((ask,), begun, seconds) if outcome is NOT_ASKED else answer_of(outcome)

    def ask_itself(self, ask: Ask, begun: float, seconds: float) -> Any:
        """Ask in the caller's own thread, where the connection is free: nobody is to be woken, nothing to be kept.

        Args:
            ask: what is asked.
            begun: now, on the monotonic clock.
            seconds: how long the caller may be held up.

        Returns:
            What comes of it, which may be a fault; ``NOT_ASKED`` where that cannot be, or took too long.
        """
        crew = self._crew
        if crew is None or begun < self._together_until or not crew.is_of_these_threads:
            return NOT_ASKED
        backend = crew.backend
        if not (backend.keeps_limits and backend.is_open and crew.is_idle):
            return NOT_ASKED
        outcome = self._in_turn(crew, backend, ask, seconds)
        if outcome is NOT_ASKED:
            return outcome
        if isinstance(outcome, BaseException):
            self._failed(ask, outcome)
        if backend.was_emptied():
            self._write_anew()
        self.pace.took_since(begun)
        return outcome

    def hand_over(self, asks: Sequence[Ask], begun: float, seconds: float) -> Answer[Any]:
        """Have the thread ask, all in one round trip; return the first answer. Seconds count since ``begun``."""
        jobs = [*map(Job, asks)]
        crew, answer = self._at_work(jobs), jobs[0].answer
        if crew is not None and crew.waiting >= MAX_WAITING:
            for job in jobs:
                self._settle(job, StoreDown(f"{MAX_WAITING} operations wait already"))
        elif crew is not None:
            crew.give(*jobs)
            if seconds and not crew.needs_this_thread and not answer.wait(begun + seconds - time.monotonic()):
                self.pace.late(seconds)
        return answer

    def all_asked(self) -> Answer[Any] | None:
        """Return what is answered when all that waits now has been asked; None where to wait for that is in vain."""
        crew = self._crew
        if crew is None or not crew.is_of_these_threads or crew.needs_this_thread:
            return None
        return crew.give(Job(_PROBE))

    def keep(self, entries: Sequence[Entry]) -> None:
        """Put links on the backlog, and write them as soon as the store takes them."""
        self.backlog.keep(entries)
        self._look_around()

    def keep_claim(self, key: str, token: bytes) -> None:
        """As ``keep``, for a claim."""
        self.backlog.keep_claim(key, token)
        self._look_around()

    def withdraw(self, key: str, token: bytes) -> None:
        """Withdraw a claim whose caller was cut off, whether or not the store has it."""
        self.backlog.withdraw(key, token)
        self._look_around()

    def token_of(self, key: str) -> bytes:
        """Return the token to claim ``key`` with: that of a claim which was about to be withdrawn, else a new one."""
        return self.backlog.token_of(key) or uuid.uuid4().bytes

    def close(self) -> None:
        """Write what waits, if the store takes it now, and release the connection; nothing is asked afterwards."""
        with self._lock:
            crew, self._crew = self._crew, None
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        if crew is not None and crew.is_of_these_threads:
            crew.dismiss()
            crew.thread.join(self._time_limit)
        else:
            self._end(self._backend)

    def dismiss(self) -> None:
        """End the thread when it has done what waits, without waiting for it: nobody uses the store any more."""
        crew = self._crew
        if crew is not None:
            crew.dismiss()

    def _at_work(self, jobs: Sequence[Job] = ()) -> Crew | None:
        """Return the crew that works; None if there is none, which is the answer to ``jobs``."""
        crew = self._crew
        if crew is not None and crew.is_of_these_threads:
            return crew
        try:
            return self._begin()
        except StoreDown as fault:
            if not self._is_closed:
                report("use the session store", fault)
            for job in jobs:
                self._settle(job, fault)
            return None

    def _begin(self) -> Crew:
        with self._lock:
            if self._is_closed:
                raise StoreDown("it is closed")
            former = self._crew
            if former is not None and former.is_of_these_threads:
                return former
            if former is not None:
                self._backend = former.backend.anew()
            crew = self._crew = Crew(self._backend, self._run)
        if former is not None:
            former.dismiss()
        try:
            # Not under the lock: the garbage collector may run in the new thread before it has begun, and ask there.
            crew.thread.start()
        except RuntimeError as error:  # the interpreter ends, or has no thread to spare: the next caller tries
            with self._lock:
                self._crew = None if self._crew is crew else self._crew
            raise StoreDown(f"no thread for it: {error}") from error
        return crew

    def _look_around(self) -> None:
        crew = None if self._is_closed else self._at_work()
        # While the store rests the thread looks around by itself.
        if crew is not None and self.readable and self.writable:
            crew.wake()

    def _in_turn(self, crew: Crew, backend: Backend, ask: Ask, seconds: float) -> Any:
        """Return what comes of one ask of a caller's, if the connection is free and the store answers in time."""
        turn, has_turn = crew.turn, False
        try:
            has_turn = turn.acquire(blocking=False)
            if not has_turn:
                return NOT_ASKED
            crew.caller = threading.get_ident()
            return backend.serve((ask,), seconds)[0]
        except BaseException as fault:
            if not is_applications(fault):
                # Late, or an old connection that is no longer one: the thread asks again, and has more patience.
                self._together_until = time.monotonic() + TOGETHER
                return NOT_ASKED
            if isinstance(ask, Put):  # who is interrupted has made that turn all the same
                self.hand_over((ask,), 0.0, 0.0)
            raise
        finally:
            if has_turn:
                crew.caller = None
                turn.release()

    # What the thread does.

    def _run(self, crew: Crew) -> None:
        while not (crew.is_dismissed and crew.is_idle):
            jobs = crew.batch(self._pause(crew.backend))
            turn = self._turn(crew)
            with turn:
                outcomes = self._serve(crew.backend, jobs) if jobs else []
                self._go_on(crew.backend, is_busy=bool(jobs))
            self._settled(jobs, outcomes, crew.backend)
            del jobs, outcomes  # what waits for the next job should not keep the last ones alive
        with self._turn(crew):
            self._end(crew.backend)
        crew.stay()

    def _turn(self, crew: Crew) -> threading.Lock:
        turn = crew.turn
        if turn.acquire(timeout=self._time_limit + _TURN_LOST):
            turn.release()
            return turn
        crew.backend = self._backend = crew.backend.anew()
        crew.turn = threading.Lock()
        return crew.turn

    def _pause(self, backend: Backend) -> float | None:
        """Return how many seconds to wait for a job; None: for ever."""
        if not (self.readable and self.writable):
            return self._breaker.left()
        due = 0.0 if self._refill else self.backlog.due_in()
        if due is not None:
            return max(due, self._breaker.left())
        return _IDLE if backend.is_untidy(is_busy=False) else None

    def _serve(self, backend: Backend, jobs: Sequence[Job]) -> list[Any]:
        """Return what each job comes to, a failure of the store's among them."""
        if not self.readable:
            return [StoreDown("it is left alone")] * len(jobs)
        begun = time.monotonic()
        try:
            outcomes = backend.serve([job.ask for job in jobs])
        except Exception as fault:
            self._shut(fault)
            return [fault] * len(jobs)
        self.pace.took_since(begun)
        return outcomes

    def _settled(self, jobs: Sequence[Job], outcomes: Sequence[Any], backend: Backend) -> None:
        """Tell callers, without holding up others at the store."""
        if jobs:
            self.pace.came(time.monotonic() - jobs[0].given)
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._settle(job, outcome)
        if backend.was_emptied():
            self._write_anew()

    def _write_anew(self) -> None:
        """Have what this process knows written to a store that has lost it."""
        self._refill = True
        self._look_around()

    def _settle(self, job: Job, outcome: Any) -> None:
        """Answer a caller."""
        if isinstance(outcome, BaseException):
            self._failed(job.ask, outcome)
            job.answer.fail(outcome)
        else:
            job.answer.settle(outcome)

    def _failed(self, ask: Ask, fault: BaseException) -> None:
        """Have what was not written wait on the backlog."""
        if isinstance(fault, StoreRefused) and self.writable:
            self._shut(fault)
        if isinstance(ask, Put):
            self.backlog.keep(ask.entries)
        elif isinstance(ask, Claim):
            self.backlog.keep_claim(ask.key, ask.token)

    def _go_on(self, backend: Backend, *, is_busy: bool) -> None:
        """Do the next part of what is to be done beside all callers."""
        if self._breaker.left():
            return
        try:
            if self._refill:
                self._refill = False
                self.backlog.keep(self._known.snapshot())
            if self.backlog.due_in() == 0.0:
                self._write(backend)
            elif not (self.readable and self.writable):
                raised(backend.serve((_PROBE,)))
            elif backend.is_untidy(is_busy=is_busy):
                backend.tidy()
            self.readable = self.writable = True
        except Exception as fault:
            self._shut(fault)

    def _write(self, backend: Backend, *, all_: bool = False) -> None:
        """Write the oldest part of the backlog."""
        if links := self.backlog.links():
            return self._write_links(backend, links)
        claims: list[Any] = [*self.backlog.claims(), *self.backlog.withdrawals(all_=all_)]
        outcomes = backend.serve(claims) if claims else []
        self.backlog.done(claims=[claim for claim, outcome in zip(claims, outcomes, strict=True) if is_well(outcome)])
        self._check(outcomes)

    def _write_links(self, backend: Backend, entries: Sequence[Entry]) -> None:
        """Write what says something later than the store does: other processes have gone on meanwhile."""
        stored = backend.serve([Lookup((key,)) for key, _ in entries])
        newer = [entry for entry, found in zip(entries, stored, strict=True) if says_more(entry, found)]
        outcomes = backend.serve([Put((entry,)) for entry in newer]) if newer else []
        left = [entry for entry, outcome in zip(newer, outcomes, strict=True) if not is_well(outcome)]
        keys = {key for key, _ in left}
        self.backlog.done(entry for entry in entries if entry[0] not in keys)
        self.backlog.postpone(left)
        self._check(outcomes)

    def _check(self, outcomes: Sequence[Any]) -> None:
        """Raise what the store refused; wait a while before a part of it that did not answer is asked again."""
        faults = [outcome for outcome in outcomes if not is_well(outcome)]
        for fault in faults:
            if isinstance(fault, StoreRefused):
                raise fault
        if faults:
            self._breaker.begin()

    def _shut(self, fault: Exception) -> None:
        """Let callers do without the store for a while, and say so once."""
        if not self._is_closed:  # after the end nothing is said any more
            report(f"use the session store, which is left alone for {self._breaker.longest:g} s at most", plain(fault))
        self._breaker.begin()
        # A store that refuses has answered: what it holds can be read.
        self.writable = False
        self.readable = isinstance(fault, StoreRefused)
        crew = self._crew
        if crew is not None:
            crew.wake()  # it waits for jobs, and now for the end of the rest

    def _end(self, backend: Backend) -> None:
        """Write what waits, once, and close what is open."""
        try:
            left = -1
            while len(self.backlog) and len(self.backlog) != left:
                left = len(self.backlog)
                self._write(backend, all_=True)
        except Exception as fault:
            self._shut(fault)
        try:
            backend.close()
        except Exception as fault:
            report("close the session store", fault)
