"""What is still to be heard of calls: who waits for that, and for how long once they have ended."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final, Protocol

from otel_llm_sessions import forks
from otel_llm_sessions.openai.question import BUDGET, Question
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.newest import newer

AT_EXIT: Final = 0.5
"""Seconds for which the end of the process waits for what a store is still to say of calls that have ended."""


class Leaving(Protocol):
    """Who leaves what is not remembered yet: other calls that may follow it wait for that."""

    begun: float
    """When it began, on the monotonic clock."""
    keys: set[str]
    """Under which keys it may be remembered, as far as that has been told."""
    sessions: frozenset[str]
    """The keys of the named sessions that it may be of."""
    settled: Answer[Record | None]
    """What is remembered of it, when that is known."""


class Awaiting(Protocol):
    """The course of a call that has ended, and is still to be told something."""

    @property
    def settled(self) -> Answer[Any]:
        """Answered when there is nothing more to be told."""
        ...

    def hear(self) -> None:
        """Tell its session to those who may wait for it, where the answer has come and was not taken in yet."""
        ...

    def hasten(self) -> None:
        """Wait for nothing but what has been asked."""
        ...

    def give_up(self) -> None:
        """Have the call end with what is known."""
        ...


class Held:
    """The courses of calls that have ended, and are still to be told something; and whom other calls wait for."""

    def __init__(self) -> None:
        self._courses: dict[int, Awaiting] = {}
        self._by_key: dict[str, list[Leaving]] = {}
        self._lock = threading.RLock()  # a signal's handler may make a call amid one
        self._numbers = itertools.count(1)
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Leave the parent's calls to the parent."""
        self._courses, self._by_key = {}, {}
        self._lock = threading.RLock()

    def add(self, course: Awaiting) -> int:
        """Note the course of a call that has ended; return its number."""
        number = next(self._numbers)
        self._courses[number] = course
        return number

    def remove(self, number: int) -> None:
        """Forget a course."""
        self._courses.pop(number, None)

    def tell(self, leaving: Leaving, keys: Iterable[str]) -> None:
        """Note keys under which something may be remembered: calls that begin to look for them now wait for it."""
        with self._lock:
            for key in keys:
                if key not in leaving.keys:
                    leaving.keys.add(key)
                    self._by_key.setdefault(key, []).append(leaving)

    def release(self, leaving: Leaving) -> None:
        """Have nobody wait for it any more."""
        with self._lock:
            for key in leaving.keys:
                waited_for = self._by_key.get(key, [])
                if leaving in waited_for:
                    waited_for.remove(leaving)
                if not waited_for:
                    self._by_key.pop(key, None)

    def pending(self, keys: Sequence[str], begun: float) -> dict[int, Leaving]:
        """Return those of which what they leave is still to be told, and may be before a call; each by its identity.

        Args:
            keys: the keys under which the call looks for them.
            begun: when the call began. It waits for those that began before it, lest two wait for each other.
        """
        if not self._by_key:
            return {}
        for course in [*self._courses.values()]:
            course.hear()
        with self._lock:
            found = [leaving for key in keys for leaving in self._by_key.get(key, ())]
        return {id(leaving): leaving for leaving in found if leaving.begun < begun}

    def give_up(self, number: int) -> None:
        """Have a call end with what is known, if it still waits."""
        course = self._courses.get(number)
        if course is not None:
            course.give_up()

    def settle(self, seconds: float = BUDGET) -> bool:
        """End all that is kept back, after waiting a moment for answers; return whether there was anything."""
        courses = dict(self._courses)
        for course in courses.values():
            course.hasten()
        _wait_for(courses.values(), seconds)
        for number in courses:
            self.give_up(number)
        _wait_for(courses.values(), AT_EXIT)  # for threads that are just ending one
        return bool(courses)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._courses)


def told_by(
    before: Iterable[Leaving], keys: Sequence[str], answers: Sequence[SessionLink | None]
) -> Generator[Question, None, list[SessionLink | None]]:
    """Return the answers with what turns of this process leave that had ended, but were not told of theirs yet.

    Args:
        before: those turns, which are waited for.
        keys: what is asked for.
        answers: what the store knows under each of them.
    """
    known = dict(zip(keys, answers, strict=True))
    for leaving in before:
        yield Question(leaving.settled, is_beside=True, is_a_turns=True)
        left = leaving.settled.result()
        if left is not None:
            left_under, link = left
            known.update((key, newer(key, known[key], link)) for key in left_under if key in known)
    return [known[key] for key in keys]


def _wait_for(courses: Iterable[Awaiting], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for course in courses:
        course.settled.wait(deadline - time.monotonic())


HELD: Final = Held()
