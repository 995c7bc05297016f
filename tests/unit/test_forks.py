"""What a child process finds that was forked while other threads held locks."""

from __future__ import annotations

import os
import threading

import pytest
from store_kit import in_child

from otel_llm_sessions import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_a_lock_that_a_thread_held_at_the_fork_is_free_in_the_child():
    lock, held, done = forks.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held:
            held.set()
            done.wait(10)

    def take() -> bool:
        with lock.held, lock.held:
            return True

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        in_child(take)
    finally:
        done.set()
        holder.join()


def test_a_fork_inside_of_the_block_ends_the_block_in_parent_and_child():
    lock = forks.Lock()

    def take() -> bool:
        with lock.held:
            return True

    with lock.held:
        in_child(take)
    taken = threading.Thread(target=take)
    taken.start()
    taken.join(10)
    assert not taken.is_alive()
