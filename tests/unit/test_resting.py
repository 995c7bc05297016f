"""What rests after a failure: bounded, by server and key."""

from __future__ import annotations

import time
import tracemalloc

from otel_llm_sessions.openai import resting
from otel_llm_sessions.openai.resting import MAX_RESTING, Resting

ALICE, BOB = b"a" * 16, b"b" * 16


def test_what_rests_does_so_for_its_key_alone():
    rests = Resting()
    rests.let_provider_rest(ALICE)
    rests.let_response_rest(ALICE, "resp_1", 60, is_gone=True)
    assert rests.provider_rests(ALICE)
    assert rests.is_gone(ALICE, "resp_1")
    assert not rests.provider_rests(BOB)
    assert not rests.response_rests(BOB, "resp_1")
    assert not rests.response_rests(ALICE, "resp_2")


def test_a_rest_ends(monkeypatch):
    rests = Resting()
    rests.let_provider_rest(ALICE)
    rests.let_response_rest(ALICE, "resp_1", 60, is_gone=True)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)
    assert resting.REST < 61
    assert not rests.provider_rests(ALICE)
    assert not rests.response_rests(ALICE, "resp_1")
    assert not rests.is_gone(ALICE, "resp_1")


def test_memory_is_bounded_however_many_ids_and_keys_there_are():
    rests = Resting()
    tracemalloc.start()
    try:
        for number in range(3 * MAX_RESTING):
            rests.let_response_rest(ALICE, f"{number:01024}", 60)
            rests.let_provider_rest(b"%016d" % number)
            rests.answered(b"%016d" % number)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2_500_000
    assert rests.response_rests(ALICE, f"{3 * MAX_RESTING - 1:01024}")


def test_many_odd_ids_wake_no_provider():
    rests = Resting()
    rests.let_provider_rest(ALICE)
    for number in range(2 * MAX_RESTING):
        rests.let_response_rest(BOB, str(number), 60)
    assert rests.provider_rests(ALICE)
