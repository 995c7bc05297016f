"""The calls that have ended while something is still to be heard of them: who waits for them, and for how long."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from otel_llm_sessions import forks
from otel_llm_sessions.openai.question import BUDGET
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.answer import Answer

AT_EXIT: Final = 0.5
"""Seconds for which the end of the process waits for what a store is still to say of calls that have ended."""


class Awaiting(Protocol):
    """The course of such a call."""

    begun: float
    """When it began, on the monotonic clock."""
    keys: list[str]
    """Under which keys the call will be remembered, as far as they are known."""
    settled: Answer[SessionLink | None]
    """What the call leaves behind, when that is known."""

    def hasten(self) -> None:
        """Wait for nothing but what has been asked."""
        ...

    def give_up(self) -> None:
        """Have the call end with what is known."""
        ...


class Held:
    """The courses of calls that have ended, and that are still to be told something."""

    def __init__(self) -> None:
        self._courses: dict[int, Awaiting] = {}
        self._by_key: dict[str, list[Awaiting]] = {}
        self._numbers = itertools.count(1)
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Leave the parent's calls to the parent."""
        self._courses, self._by_key = {}, {}

    def add(self, course: Awaiting) -> int:
        """Note a course; return its number."""
        number = next(self._numbers)
        self._courses[number] = course
        for key in course.keys:
            self._by_key.setdefault(key, []).append(course)
        return number

    def tell(self, number: int, key: str) -> None:
        """Note a key under which a call will be remembered, if it has ended."""
        course = self._courses.get(number)
        if course is not None and key not in course.keys:
            course.keys.append(key)
            self._by_key.setdefault(key, []).append(course)

    def remove(self, number: int) -> None:
        """Forget a course."""
        course = self._courses.pop(number, None)
        for key in course.keys if course is not None else ():
            left = [other for other in self._by_key.get(key, ()) if other is not course]
            if left:
                self._by_key[key] = left
            else:
                self._by_key.pop(key, None)

    def pending(self, keys: Sequence[str], begun: float) -> dict[str, Answer[SessionLink | None]]:
        """Return what is still to be told of the turns before a call, by the keys under which it looks for them.

        Args:
            keys: those keys.
            begun: when the call began. It waits for those that began before it, lest two wait for each other.
        """
        pending: dict[str, Answer[SessionLink | None]] = {}
        for key in keys if self._by_key else ():
            before = [course for course in self._by_key.get(key, ()) if course.begun < begun]
            if before:
                pending[key] = before[-1].settled
        return pending

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


def _wait_for(courses: Iterable[Awaiting], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for course in courses:
        course.settled.wait(deadline - time.monotonic())


HELD: Final = Held()
