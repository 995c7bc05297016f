"""What a child process finds that was forked while other threads held locks."""

from __future__ import annotations

import os
import threading

import pytest
from store_kit import in_child

from otel_llm_sessions import forks
from otel_llm_sessions.openai.watch import _is_amid_locks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_a_lock_that_a_thread_held_at_the_fork_is_free_in_the_child():
    lock, held, done = forks.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    def take() -> bool:
        with lock, lock:
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

    def leave_and_take() -> bool:
        lock.__exit__()
        with lock:
            return True

    with lock:
        in_child(leave_and_take)
    taken = threading.Thread(target=lock.__enter__)
    taken.start()
    taken.join(10)
    assert not taken.is_alive()


def test_a_collection_amid_a_fork_ends_nobodys_call():
    """It may come before the child has let go of its parent's streams."""
    seen = []

    class Renewed:
        def after_fork_in_child(self) -> None:
            seen.append(_is_amid_locks())

    renewed = Renewed()
    forks.renew_in_child(renewed)

    def look() -> bool:
        return seen == [True]

    in_child(look)
    assert not seen
