"""The SQLite store: many processes, locks, full disks, deleted files, forks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import store_kit
from disk_faults import filled_up, read_only, small_file_system
from store_kit import (
    a_link,
    assert_held_up,
    calls_of,
    in_child,
    locked,
    until,
)

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.shared import StoreDown, StoreRefused
from otel_llm_sessions.stores.sqlite import SqliteStore
from otel_llm_sessions.stores.sqlite_file import SAMPLE, clean

SOON = 0.05
PATIENT = 5.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
def guarded(path, closing):
    """Open a guarded store that comes back soon."""
    return lambda **options: closing(GuardedStore(SqliteStore(path, **options), rest=SOON, first_rest=SOON))


@pytest.fixture
def other(path, closing):
    """What another process sees."""
    return closing(SqliteStore(path, time_limit=PATIENT))


def test_a_file_is_in_wal_mode_and_holds_no_readable_id(path, other):
    other.put(["s:my-secret-session"], a_link())
    other.claim("my-secret-session")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        keys = [key for (key,) in connection.execute("SELECT key FROM links UNION SELECT key FROM claims")]
    assert all(len(key) == 20 and b"secret" not in key for key in keys)


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")
def test_the_files_are_their_owners_alone(path, other):
    former = os.umask(0)
    try:
        other.put(["s:1"], a_link())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(former)
    assert modes == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), 0o600)


@pytest.mark.parametrize("record", [b"garbage", b"\x01older", b"\xffnewer", b""])
def test_records_that_are_garbage_older_or_newer_are_unknown(path, other, record):
    other.put(["s:1"], a_link())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE links SET value = ?", (record,))
        connection.commit()
    assert other.get_all(["s:1"])[0] is None
    other.put(["s:1"], link := a_link())
    assert other.get_all(["s:1"]) == [link]


def test_what_expired_is_deleted_and_the_log_does_not_grow(path, closing):
    store = closing(SqliteStore(path, ttl=-1, time_limit=PATIENT))
    numbers = itertools.count()

    def put() -> None:
        number = next(numbers)
        store.put([f"s:{number}:{part}" for part in range(20)], a_link(number))

    def rows() -> int:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM links").fetchone()[0]

    def is_small_and_in_the_database() -> bool:
        put()  # a cleaning follows writes
        return rows() < 1_000 and os.path.getsize(path) > 40_000

    for _ in range(60):
        put()
    until(is_small_and_in_the_database)


@pytest.mark.parametrize("scarce", ["otel-llm-sessions-sqlite", "otel-llm-sessions-sqlite-clean"])
def test_when_there_is_no_thread_to_spare_the_store_works_once_there_is(guarded, other, monkeypatch, scarce):
    start = threading.Thread.start

    def spare(thread):
        if thread.name == scarce:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", spare)
    store = guarded(time_limit=PATIENT)
    store.put(["s:1"], a_link(1))
    assert store.get_all(["s:1"])[0].turn == 1
    monkeypatch.undo()
    until(lambda: other.get_all(["s:1"])[0])
    until(lambda: store._recovery.writable)
    store.put(["s:2"], a_link(2))
    assert other.get_all(["s:2"])[0].turn == 2


def test_what_expired_is_found_wherever_it_is(path, other):
    for part in range(20):
        other.put_all([(f"s:live:{part}:{number}", a_link()) for number in range(SAMPLE // 5)])
    with contextlib.closing(SqliteStore(path, ttl=-1, time_limit=PATIENT)) as expiring:
        expiring.put_all([(f"s:expired:{number}", a_link()) for number in range(200)])

    def rows() -> int:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM links").fetchone()[0]

    assert rows() > 4 * SAMPLE
    for _ in range(100):  # each finds a quarter of what is left
        clean(str(path))
        if rows() == 20 * (SAMPLE // 5):
            return
    raise AssertionError(f"{rows()} rows are left")


def test_a_locked_file_holds_up_one_call(path, guarded, other):
    store = guarded()
    store.put(["s:before"], a_link(1))
    with locked(path):
        assert_held_up(calls_of(store)[1:])
        assert store.get_all(["s:before"])[0].turn == 1
    until(lambda: other.get_all(["s:1"])[0])


@pytest.mark.slow
def test_a_file_that_is_locked_for_ten_seconds_loses_nothing(path, guarded, other):
    store = guarded()
    store.put(["s:before"], a_link(1))
    with locked(path):
        store.put(["s:first"], a_link(1))  # held up
        end = time.monotonic() + 10
        while time.monotonic() < end:
            store.put(["s:during"], a_link(2))
            assert store.get_all(["s:during"])[0].turn == 2
            time.sleep(0.01)
    until(lambda: other.get_all(["s:during"])[0] and other.get_all(["s:first"])[0] and other.get_all(["s:before"])[0])


def test_a_deleted_file_is_made_anew_with_what_all_processes_know(path, guarded, closing):
    one, two = guarded(time_limit=PATIENT), guarded(time_limit=PATIENT)
    one.put(["r:1", "s:1"], a_link(1))
    two.put(["r:2", "s:2"], a_link(2))
    os.unlink(path)
    assert one.get_all(["s:1"])[0].turn == 1
    assert two.get_all(["s:2"])[0].turn == 2
    third = closing(SqliteStore(path, time_limit=PATIENT))
    until(lambda: all(third.get_all(["r:1", "s:1", "r:2", "s:2"])))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_cleaning_does_not_make_a_database_that_was_deleted(tmp_path):
    path = tmp_path / "50% of #1?.db"
    clean(str(path))
    assert not path.exists()
    with contextlib.closing(SqliteStore(path, ttl=-1, time_limit=PATIENT)) as store:
        store.put(["s:1"], a_link())

    def is_cleaned() -> bool:
        clean(str(path))
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM links").fetchone() == (0,)

    until(is_cleaned)  # another one may be under way, which it does not wait for


def test_a_directory_that_is_missing_or_is_a_directory_or_is_no_database_harms_nobody(tmp_path, closing):
    (tmp_path / "text").write_text("not a database, but something that must stay as it is " * 100)
    for wrong in (tmp_path / "missing" / "file.db", tmp_path, tmp_path / "text"):
        with pytest.raises(StoreDown):
            closing(SqliteStore(wrong, time_limit=PATIENT)).get_all(["s:1"])
        assert_held_up(calls_of(closing(GuardedStore(SqliteStore(wrong)))))
    assert (tmp_path / "text").read_text().startswith("not a database")


@pytest.fixture
def mounted(tmp_path):
    """A small file system of its own."""
    with small_file_system(tmp_path / "mounted") as directory:
        yield directory


def test_a_full_disk_is_read_and_written_when_it_has_room(mounted, closing):
    inner = SqliteStore(mounted / "sessions.db", time_limit=PATIENT)
    store = closing(GuardedStore(inner, rest=SOON, first_rest=SOON))
    store.put(["s:before"], a_link(7))
    # Where a file may not grow, SQLite says "disk I/O error" and nothing of a full disk.
    fault = StoreRefused if mounted.is_mount() else StoreDown
    with filled_up(mounted):
        refused = 0
        for number in range(200):
            try:
                inner.put([f"s:{number}:{part}" for part in range(10)], a_link(number))
            except fault:
                refused += 1
                break
        assert refused
        store.put([f"s:during:{part}" for part in range(100)], a_link(8))
        assert not store._recovery.writable
        assert store.get_all(["s:before"])[0].turn == 7
        assert_held_up(calls_of(store))
    other = closing(SqliteStore(mounted / "sessions.db", time_limit=PATIENT))
    until(lambda: other.get_all(["s:during:99"])[0] and other.get_all(["s:1"])[0])


def test_a_file_that_may_not_be_written_harms_nobody_and_is_written_when_it_may(mounted, closing):
    store = closing(GuardedStore(SqliteStore(mounted / "sessions.db"), rest=SOON, first_rest=SOON))
    with read_only(mounted):
        assert_held_up(calls_of(store))
        assert store.get_all(["s:1"])[0] is not None
    other = closing(SqliteStore(mounted / "sessions.db", time_limit=PATIENT))
    until(lambda: (mounted / "sessions.db").exists() and other.get_all(["s:1"])[0])


def test_a_file_that_may_not_grow_harms_nobody(path):
    def check():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = GuardedStore(SqliteStore(path, time_limit=PATIENT), rest=SOON, first_rest=SOON)
        store.put(["s:before"], a_link(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for number in range(500):
            store.put([f"s:{number}"], a_link(number))
        return not store._recovery.writable and all(store.get_all([f"s:{number}"])[0] for number in range(500))

    in_child(check)


async def test_a_locked_file_does_not_delay_another_task(path, other):
    (await other.aget_all(["s:1"]))[0]
    gaps, done = [], asyncio.Event()

    async def beat():
        while not done.is_set():
            gaps.append(time.perf_counter())
            await asyncio.sleep(0.001)

    store = SqliteStore(path)
    (await store.aget_all(["s:1"]))[0]
    with locked(path):
        beats = asyncio.ensure_future(beat())
        begun = time.perf_counter()
        with pytest.raises(StoreDown):
            await store.aput(["s:1"], a_link())
        took = time.perf_counter() - begun
        done.set()
        await beats
    store.close()
    assert took > 0.035
    assert max(later - earlier for earlier, later in zip(gaps, gaps[1:])) < 0.03


def test_a_child_has_its_own_connection_and_its_parent_keeps_its(path, closing):
    store = closing(SqliteStore(path, time_limit=PATIENT))
    store.put(["s:1"], a_link(1))

    def check():
        store.put(["s:2"], a_link(2))
        found = store.get_all(["s:1"])[0].turn == 1 and store.get_all(["s:2"])[0].turn == 2
        store.close()
        return found

    for _ in range(3):
        in_child(check)
        assert store.get_all(["s:2"])[0].turn == 2
    store.put(["s:3"], a_link(3))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_child_of_a_parent_whose_file_is_busy_does_without_the_file(path, closing):
    store = closing(SqliteStore(path))
    guard = GuardedStore(store, rest=SOON, first_rest=SOON)
    guard.put(["s:1"], a_link(1))
    busy, release = threading.Event(), threading.Event()
    waiting = threading.Thread(target=store._keeper.ask, args=(lambda file: (busy.set(), release.wait(10)), 10))
    waiting.start()
    busy.wait(10)

    def check():
        with pytest.raises(StoreDown, match="forked"):
            store.get_all(["s:1"])[0]
        guard.put(["s:2"], a_link(2))
        return guard.get_all(["s:1"])[0].turn == 1 and guard.get_all(["s:2"])[0].turn == 2

    in_child(check)
    release.set()
    waiting.join()
    until(lambda: guard._recovery.writable)


def test_a_cleaning_that_takes_long_neither_delays_a_fork_nor_is_joined_by_another(path, closing, monkeypatch):
    cleaning, ended = threading.Semaphore(0), threading.Event()

    def slowly(path, may_go_on):
        cleaning.release()
        while may_go_on() and not ended.wait(0.001):
            pass

    monkeypatch.setattr("otel_llm_sessions.stores.sqlite.clean", slowly)
    store = closing(SqliteStore(path, time_limit=PATIENT))
    for number in range(4):  # the first operation begins one, and each 512 writes
        store.put_all([(f"s:{number}:{part}", a_link()) for part in range(600)])
    store.get_all(["s:1"])[0]
    cleaners = [thread for thread in threading.enumerate() if thread.name == "otel-llm-sessions-sqlite-clean"]
    assert len(cleaners) == 1
    assert cleaning.acquire(timeout=10)
    in_child(lambda: store.get_all(["s:0:0"])[0])
    until(lambda: not cleaners[0].is_alive())
    store.put_all([(f"s:after:{part}", a_link()) for part in range(600)])
    assert cleaning.acquire(timeout=10), "and is begun again after the fork"
    ended.set()


def test_many_threads_share_the_one_connection(path, closing):
    store = closing(SqliteStore(path, time_limit=PATIENT))

    def turns(number: int) -> None:
        for turn in range(1, 21):
            store.put([f"s:{number}"], a_link(turn))

    threads = [threading.Thread(target=turns, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.get_all([f"s:{number}"])[0].turn for number in range(20)] == [20] * 20


PUT_AND_CLAIM = """
import sys
sys.path.insert(0, sys.argv[2])
from store_kit import a_link
from otel_llm_sessions.stores.sqlite import SqliteStore
store, me = SqliteStore(sys.argv[1], time_limit=30), sys.argv[3]
won = 0
for number in range(50):
    store.put([f"s:{me}:{number}"], a_link(number + 1))
    won += store.claim(f"{number}")
store.close()
print(won)
"""


@pytest.mark.slow
def test_processes_that_all_begin_at_once_share_one_file(path, other):
    kit = os.path.dirname(store_kit.__file__)
    processes = [
        subprocess.Popen([sys.executable, "-c", PUT_AND_CLAIM, str(path), kit, str(number)], stdout=subprocess.PIPE)
        for number in range(6)
    ]
    won = [int(process.communicate()[0]) for process in processes]
    assert sum(won) == 50
    assert all(other.get_all([f"s:{me}:{number}" for me in range(6) for number in range(50)]))


def test_a_scope_that_somebody_else_wrote_is_bounded(path, closing):
    closing(SqliteStore(path, time_limit=PATIENT)).get_all(["s:1"])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE scope SET name = ?", ("x" * 200_000,))
    store = closing(SqliteStore(path, time_limit=PATIENT))
    store.get_all(["s:1"])
    assert len(store.scope) <= 128
