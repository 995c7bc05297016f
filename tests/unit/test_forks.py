"""What a child process finds that was forked while other threads held locks."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from otel_llm_sessions import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def exit_code_of_child(work) -> int:
    """Run ``work`` in a forked child, which is killed after 10 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_that_a_thread_held_at_the_fork_is_free_in_the_child():
    lock, held, done = forks.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    def take() -> None:
        with lock, lock:
            pass

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        assert exit_code_of_child(take) == 0
    finally:
        done.set()
        holder.join()


def test_a_fork_inside_of_the_block_ends_the_block_in_parent_and_child():
    lock = forks.Lock()

    def leave_and_take() -> None:
        lock.__exit__()
        with lock:
            pass

    with lock:
        assert exit_code_of_child(leave_and_take) == 0
    taken = threading.Thread(target=lock.__enter__)
    taken.start()
    taken.join(10)
    assert not taken.is_alive()
