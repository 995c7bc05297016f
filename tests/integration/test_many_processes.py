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
from fleet_work import PATIENT, UNHEARD, Work, loopback_process, mistakes
from otlp_receiver import OtlpReceiver
from redis_groups import GROUPS, Cluster, group_of
from store_kit import SERVERS, require_program

pytestmark = pytest.mark.slow

TURNS = 8
"""Of each session."""


@pytest.fixture(params=[f"{kind} {server}" for kind in GROUPS for server in SERVERS])
def group(request, tmp_path) -> Iterator[Any]:
    """A cluster, or a master that a Sentinel watches, of each kind of server."""
    kind, server = request.param.split()
    with group_of(kind, tmp_path, require_program(server)) as running:
        yield running


@contextmanager
def busy_machine() -> Iterator[None]:
    """Two other processes take all that they get of the machine."""
    with contextlib.ExitStack() as others:
        for _ in range(2):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            others.callback(other.kill)
        yield


def check(store_url: str, number: int, *, limit: float | None = None, is_busy: bool = False) -> None:
    """Have sessions of eight turns made by eight processes, and compare what arrives.

    Args:
        store_url: the store.
        number: of sessions.
        limit: how long the store may take, in seconds; None for as long as in applications.
        is_busy: whether the machine has too much to do.
    """
    seed = random.randrange(1 << 32)
    with a_fleet(store_url, limit) as (fleet, receiver):
        work = Work(fleet, number, TURNS, random.Random(seed))
        with busy_machine() if is_busy else contextlib.nullcontext():
            work.run()
        fleet.finish()
        wrong = mistakes(receiver.spans, work.sessions)
        assert not wrong, f"seed {seed}: {len(wrong)} mistakes\n" + "\n".join(wrong[:20]) + "\n" + fleet.printed


@contextmanager
def a_fleet(store_url: str, limit: float | None = None) -> Iterator[tuple[Fleet, OtlpReceiver]]:
    """Eight processes, and where their spans arrive."""
    with OtlpReceiver() as receiver, loopback_process() as base_url:
        options = {"store": store_url, "base_url": base_url, "endpoint": receiver.endpoint, "time_limit": limit}
        with Fleet(["sync", "async"] * 4, **options) as fleet:
            yield fleet, receiver


def test_eight_processes_share_two_thousand_sessions_without_a_mistake(shared_url):
    check(shared_url, 2_000, limit=PATIENT)


@pytest.mark.alone
def test_eight_processes_on_a_busy_machine_make_no_mistake_with_the_limits_that_applications_have(shared_url):
    check(shared_url, 250, is_busy=True)


@pytest.mark.alone
def test_eight_processes_share_more_than_one_redis_without_a_mistake(group):
    # In a cluster a process may be held up by a server whom the next one does not ask: a quick provider's reply is then
    # there before the store has heard of the turn.
    if isinstance(group, Cluster):
        check(group.url, 250, limit=PATIENT)
    else:
        check(group.url, 250, is_busy=True)


@pytest.mark.alone
def test_when_a_master_dies_no_call_is_hurt_and_what_does_not_know_its_session_says_so(group):
    with a_fleet(group.url) as (fleet, receiver):
        work = Work(fleet, 250, TURNS, random.Random(7))
        work.run(500)
        begun = time.time_ns() - UNHEARD
        group.kill_a_master()  # while turns are in flight; an error of a call is one of the test
        while not group.has_failed_over():
            if work.begun < 1_400:
                work.run(work.begun + 20)
        time.sleep(2)  # what is promised: all are right two seconds after it answers again
        down = begun, time.time_ns()
        work.run()
        fleet.finish()
        wrong = mistakes(receiver.spans, work.sessions, down)
        assert not wrong, f"{len(wrong)} mistakes\n" + "\n".join(wrong[:20]) + "\n" + fleet.printed
