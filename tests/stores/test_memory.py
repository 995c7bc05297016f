"""The store of one process: bounded, and a child's own."""

from __future__ import annotations

import gc
import os
import signal
import weakref

import pytest
from store_kit import Interrupting, a_link, in_child

from otel_llm_sessions.stores.memory import MemoryStore


def test_the_least_recently_used_key_makes_room():
    store = MemoryStore(max_keys=2)
    store.put(["r:1"], a_link(1))
    store.put(["r:2"], a_link(2))
    store.get_all(["r:1"])[0]
    store.put(["r:3"], a_link(3))
    assert [key for key, _ in store.snapshot()] == ["r:1", "r:3"]


def test_claims_are_bounded():
    store = MemoryStore(max_keys=2)
    assert all(store.claim(key) for key in ("1", "2", "3"))
    assert [store.claim("3"), store.claim("1")] == [False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_keeps_what_its_parent_knew_and_claims_for_itself():
    store = MemoryStore()
    store.put(["r:1"], a_link())
    store.claim("root")
    scope = store.scope
    in_child(lambda: store.get_all(["r:1"])[0] and store.claim("root") and store.scope != scope)
    assert store.scope == scope


def test_a_store_that_is_no_longer_used_is_freed():
    store = MemoryStore()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_signal_handler_that_makes_a_call_amid_another_is_answered():
    def check():
        store, answered = MemoryStore(), []

        def handler(*_):
            store.put(["s:handler"], a_link(7))
            answered.append((store.get_all(["s:handler"])[0].turn, store.claim(f"root:{len(answered)}")))

        signal.signal(signal.SIGALRM, handler)
        store.put([Interrupting("s:1")], a_link(1))
        store.get_all([Interrupting("s:1")])[0]
        store.claim(Interrupting("root"))
        store.withdraw(Interrupting("root"))
        return len(answered) >= 4 and all(answer == (7, True) for answer in answered)

    in_child(check)
