"""Keys that tell a session only as long as no other session leaves them: each is claimed before it is written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from functools import partial

from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.history import ReadHistory
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.keys import doubt_key
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer


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
    if history is None:
        return asked.ask_put(record.keys, record.link, within)
    began = time.monotonic()
    keys, claims = history.split(record.keys)
    written = [asked.ask_put(keys, record.link, within)] if keys else []
    for key in claims:
        left = within and max(0.0, began + within - time.monotonic())
        written.append(_claimed(call.runtime, history, key, record.link, left))
    return _all_of(written)


def _claimed(runtime: Runtime, history: ReadHistory, key: str, link: SessionLink, within: float) -> Answer[None]:
    written: Answer[None] = Answer()

    def write(claimed: Answer[bool], within: float = 0.0) -> None:
        is_own = claimed.result() and claimed.is_known  # where nobody could be asked, others may have left it
        if is_own:
            history.owns(key)
        answer = runtime.asked.ask_put([key if is_own else doubt_key(key)], link, within)
        answer.when_done(lambda _: written.settle(None))

    claim = runtime.asked.ask_claim(key, within)
    if claim.is_done:
        write(claim, within)
    else:
        # Not on the thread that answers: a store's has others to serve.
        claim.when_done(lambda claimed: beside.soon(partial(write, claimed)))
    return written


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
