"""Sessions whose every turn is made in another process: what arrives over OTLP shows each as one, without a mistake."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fleet import Fleet
from fleet_work import PATIENT, Work, loopback_process, mistakes
from otlp_receiver import OtlpReceiver
from redis_groups import GROUPS, group_of
from store_kit import SERVERS, require_program
from waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(params=GROUPS)
def group(request, tmp_path) -> Iterator[Any]:
    """A cluster, or a master that a Sentinel watches."""
    with group_of(request.param, tmp_path, require_program(SERVERS[0])) as running:
        yield running


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request, tmp_path) -> str:
    """A shared store that nothing has been put into."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    return request.getfixturevalue("redis").url


@contextmanager
def busy_machine() -> Iterator[None]:
    """Two other processes take all that they get of the machine."""
    with contextlib.ExitStack() as others:
        for _ in range(2):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            others.callback(other.kill)
        yield


def check(store_url: str, clients: list[str], number: int, turns: int, *, is_busy: bool = False) -> None:
    """Have sessions made and compare what arrives.

    Args:
        store_url: the store.
        clients: of each process, ``sync`` or ``async``.
        number: of sessions.
        turns: of each session.
        is_busy: whether the machine has too much to do, and the store has the limits that it has in applications.
    """
    seed = random.randrange(1 << 32)
    options = {"store": store_url, "time_limit": None if is_busy else PATIENT}
    with OtlpReceiver() as receiver, loopback_process() as base_url:
        with Fleet(clients, base_url=base_url, endpoint=receiver.endpoint, **options) as fleet:
            work = Work(fleet, number, turns, random.Random(seed))
            with busy_machine() if is_busy else contextlib.nullcontext():
                work.run()
            fleet.finish()
            wrong = mistakes(receiver.spans, work.sessions)
            assert not wrong, f"seed {seed}: {len(wrong)} mistakes\n" + "\n".join(wrong[:20]) + "\n" + fleet.printed


def test_eight_processes_share_two_thousand_sessions_without_a_mistake(store_url):
    check(store_url, ["sync", "async"] * 4, 2_000, 8)


@pytest.mark.alone
def test_eight_processes_on_a_busy_machine_make_no_mistake_with_the_limits_that_applications_have(store_url):
    check(store_url, ["sync", "async"] * 4, 250, 8, is_busy=True)


def test_eight_processes_share_more_than_one_redis_without_a_mistake(group):
    check(group.url, ["sync", "async"] * 4, 250, 8)


def test_a_master_that_dies_hurts_no_call_and_what_begins_when_it_is_replaced_is_right(group):
    chance = random.Random(7)
    with OtlpReceiver() as receiver, loopback_process() as base_url:
        options = {"store": group.url, "base_url": base_url, "endpoint": receiver.endpoint, "time_limit": PATIENT}
        with Fleet(["sync", "async"] * 4, **options) as fleet:
            before, meanwhile, after = (Work(fleet, 60, 6, chance, name) for name in ("before", "meanwhile", "after"))
            before.run()
            group.kill_a_master()
            meanwhile.run()  # an error of a call is one of the test
            until(group.has_failed_over)
            time.sleep(2)  # what is promised: all are right two seconds after it answers again
            after.run()
            fleet.finish()
        wrong = mistakes(receiver.spans, before.sessions + after.sessions, meanwhile.sessions)
        assert not wrong, f"{len(wrong)} mistakes\n" + "\n".join(wrong[:20]) + "\n" + fleet.printed
