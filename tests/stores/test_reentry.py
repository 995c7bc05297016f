"""Where a store is asked from: a signal's handler amid another call, a loop that is closed without any ceremony."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
import warnings

import pytest
from store_kit import KINDS, a_link, in_child, put_and_got

SECONDS = 0.4


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_handler_may_ask_whatever_it_interrupts(kind, open_another):
    def check() -> bool:
        store = open_another()
        answered: list[bool] = []
        busy = False

        def handler(*_: object) -> None:
            nonlocal busy
            if busy:
                return
            busy = True
            number = len(answered)
            store.put(["s:handler", f"r:{number}"], a_link(number + 1))
            answered.append(store.get_all(["s:handler"])[0].turn == number + 1 and store.claim(f"root:{number}"))
            busy = False

        signal.signal(signal.SIGPROF, handler)
        signal.setitimer(signal.ITIMER_PROF, 0.002, 0.0013)
        turn, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end or len(answered) < 3:
            turn += 1
            store.put(["s:main"], a_link(turn))
            assert store.get_all(["s:main"])[0].turn == turn
        signal.setitimer(signal.ITIMER_PROF, 0)
        return all(answered)

    in_child(check)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_is_just_closed_leaves_nothing_open(kind, store):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(put_and_got(store)) is not None
            loop.close()  # not as asyncio.run does it
            del loop
            gc.collect()
    assert not said
