"""Keys that tell a session only as long as no other session leaves them: each is claimed before it is written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.openai.history import ReadHistory
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.keys import RESPONSE_PREFIX, doubt_key
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer

T = TypeVar("T")


def ask_put(call: Call, record: Record, within: float = 0.0) -> Answer[None]:
    """Have what a call leaves remembered; the answer says that the store has it.

    A key of its history that another session has left already is not overwritten: that it has been left twice is
    remembered instead, and nobody goes on by it.

    Args:
        call: the call.
        record: what it leaves.
        within: seconds for which the caller may be held up.
    """
    history, asked = call.request.history, call.runtime.asked
    left_under, link = record
    if history is None:
        return asked.ask_put(left_under, link, within)
    began = time.monotonic()
    keys, claims = history.split(left_under)
    beside: Sequence[str] = ()
    if claims and all(key.startswith(RESPONSE_PREFIX) for key in keys):  # no turn that follows looks for them
        keys, beside = [], keys
    written = [asked.ask_put(keys, link, within)] if keys else []
    for key in claims:
        left = within and max(0.0, began + within - time.monotonic())
        written.append(_Claiming(call.runtime, history, (key, *beside), link).begin(left))
        beside = ()
    return _all_of(written)


class _Claiming:
    """Has one key of a call's history remembered, if it is the session's own; who asks waits for ``written``."""

    def __init__(self, runtime: Runtime, history: ReadHistory, keys: Sequence[str], link: SessionLink) -> None:
        """Args: ``keys``: that key, and those that are written with it whoever's it is."""
        self._asked = runtime.asked
        self._history = history
        self._key, *self._beside = keys
        self._link = link
        self.written: Answer[None] = Answer()
        self.begun = time.monotonic()
        self.keys: set[str] = set()
        self.sessions: frozenset[str] = frozenset()
        self.settled: Answer[Record | None] = Answer()
        """What is remembered: who looks for the key waits for that, since the call itself may be over."""

    def begin(self, within: float) -> Answer[None]:
        """Claim it; ``within`` as in ``ask_put``."""
        self._go_on(self._asked.ask_claim(self._key, within), self._when_claimed, within)
        return self.written

    def _when_claimed(self, claimed: Answer[bool], within: float) -> None:
        if claimed.is_known and claimed.result():
            self._write(is_own=True, within=within)
        else:
            self._go_on(self._asked.ask((self._key,), within), self._when_told, within)

    def _when_told(self, told: Answer[list[SessionLink | None]], within: float) -> None:
        """Somebody has left it before. Where nobody could be asked, it may have been anybody."""
        (link,) = told.result()
        self._write(
            is_own=told.is_known and link is not None and link.session_id == self._link.session_id, within=within
        )

    def _write(self, *, is_own: bool, within: float) -> None:
        if is_own:
            self._history.owns(self._key)
        keys = (self._key if is_own else doubt_key(self._key), *self._beside)
        answer = self._asked.ask_put(keys, self._link, within)
        self.settled.settle((keys, self._link))
        HELD.release(self)
        answer.when_done(lambda _: self.written.settle(None))

    def _go_on(self, answer: Answer[T], then: Callable[[Answer[T], float], None], within: float) -> None:
        if answer.is_done:
            then(answer, within)
        else:
            HELD.tell(self, (self._key, *self._beside))
            # Not on the thread that answers: a store's has others to serve.
            answer.when_done(lambda late: beside.soon(partial(then, late, 0.0)))


def _all_of(answers: Sequence[Answer[None]]) -> Answer[None]:
    """Return the answer that is there once all are."""
    if not answers:
        return Answer.of(None)
    if len(answers) == 1:
        return answers[0]
    whole: Answer[None] = Answer()
    numbers = itertools.count(1)

    def one_more(_: Answer[None]) -> None:
        if next(numbers) == len(answers):
            whole.settle(None)

    for answer in answers:
        answer.when_done(one_more)
    return whole
