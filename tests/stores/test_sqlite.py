"""The SQLite store: many processes, locks, full disks, deleted files, forks."""

from __future__ import annotations

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
    Lateness,
    a_link,
    assert_held_up,
    calls_of,
    in_child,
    locked,
    sqlite_direct,
)
from waiting import gaps_of_another_task, run_all, until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.shared import Claim, Lookup, Put, StoreDown, StoreRefused
from otel_llm_sessions.stores.sqlite import SqliteBackend
from otel_llm_sessions.stores.sqlite_file import SAMPLE

SOON = 0.05
PATIENT = 5.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
def guarded(path, closing):
    """Open a guarded store that comes back soon."""
    return lambda **options: closing(GuardedStore(SqliteBackend(path), rest=SOON, first_rest=SOON, **options))


@pytest.fixture
def other(path, closing):
    """What another process sees."""
    return closing(sqlite_direct(path))


def test_a_file_is_in_wal_mode_and_holds_no_readable_id(path, other):
    other.put(["s:my-secret-session"], a_link())
    other.claim("my-secret-session")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        keys = [key for (key,) in connection.execute("SELECT key FROM links UNION SELECT key FROM claims")]
    assert [len(key) for key in keys] == [20, 20]
    assert not [key for key in keys if b"secret" in key]


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


def rows(path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM links").fetchone()[0]


def test_what_expired_is_deleted_and_the_log_does_not_grow(path, closing):
    store = closing(GuardedStore(SqliteBackend(path, ttl=-1), time_limit=PATIENT))
    numbers = itertools.count(1)

    def put() -> None:
        number = next(numbers)
        store.put([f"s:{number}:{part}" for part in range(20)], a_link(number))

    seen = [0]

    def is_small_and_in_the_database() -> bool:
        seen.append(rows(path))
        if seen[-1] >= seen[-2]:
            put()  # a cleaning follows writes
        return seen[-1] < 1_000 and os.path.getsize(path) > 40_000

    for _ in range(60):
        put()
    until(is_small_and_in_the_database)


def test_when_there_is_no_thread_to_spare_the_store_works_once_there_is(guarded, other, monkeypatch):
    start = threading.Thread.start

    def spare(thread):
        if thread.name == "otel-llm-sessions-sqlite":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", spare)
    store = guarded(time_limit=PATIENT)
    store.put(["s:1"], a_link(1))
    assert store.get_all(["s:1"])[0].turn == 1
    monkeypatch.undo()
    until(lambda: store.get_all(["s:1"])[0] and other.get_all(["s:1"])[0])  # the next caller begins it
    until(lambda: store.is_up)
    store.put(["s:2"], a_link(2))
    assert other.get_all(["s:2"])[0].turn == 2


def test_what_expired_is_found_wherever_it_is(path, other):
    for part in range(20):
        other.put_all([(f"s:live:{part}:{number}", a_link()) for number in range(SAMPLE // 5)])
    with contextlib.closing(sqlite_direct(path, ttl=-1)) as expiring:
        expiring.put_all([(f"s:expired:{number}", a_link()) for number in range(200)])

    assert rows(path) > 4 * SAMPLE
    for _ in range(400):  # each finds a part of what is left
        other.backend.tidy()
        if rows(path) == 20 * (SAMPLE // 5):
            return
    raise AssertionError(f"{rows(path)} rows are left")


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
    third = closing(sqlite_direct(path))
    until(lambda: all(third.get_all(["r:1", "s:1", "r:2", "s:2"])))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_cleaning_does_not_make_a_database_that_was_deleted(path, other):
    other.put(["s:1"], a_link())
    path.unlink()
    other.backend.tidy()
    assert not path.exists()


def test_a_directory_that_is_missing_or_is_a_directory_or_is_no_database_harms_nobody(tmp_path, closing):
    (tmp_path / "text").write_text("not a database, but something that must stay as it is " * 100)
    for wrong in (tmp_path / "missing" / "file.db", tmp_path, tmp_path / "text"):
        with pytest.raises(StoreDown):
            closing(sqlite_direct(wrong)).get_all(["s:1"])
        assert_held_up(calls_of(closing(GuardedStore(SqliteBackend(wrong)))))
    assert (tmp_path / "text").read_text().startswith("not a database")


@pytest.fixture
def mounted(tmp_path):
    """A small file system of its own."""
    with small_file_system(tmp_path / "mounted") as directory:
        yield directory


def test_a_full_disk_is_read_and_written_when_it_has_room(mounted, closing):
    inner = closing(sqlite_direct(mounted / "sessions.db"))
    backend = SqliteBackend(mounted / "sessions.db")
    store = closing(GuardedStore(backend, time_limit=PATIENT, rest=SOON, first_rest=SOON))
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
        assert not store.is_up
        assert store.get_all(["s:before"])[0].turn == 7
        assert_held_up(calls_of(store))
    other = closing(sqlite_direct(mounted / "sessions.db"))
    until(lambda: other.get_all(["s:during:99"])[0] and other.get_all(["s:1"])[0])


def test_a_file_that_may_not_be_written_harms_nobody_and_is_written_when_it_may(mounted, closing):
    store = closing(GuardedStore(SqliteBackend(mounted / "sessions.db"), rest=SOON, first_rest=SOON))
    with read_only(mounted):
        assert_held_up(calls_of(store))
        assert store.get_all(["s:1"])[0] is not None
    other = closing(sqlite_direct(mounted / "sessions.db"))
    until(lambda: (mounted / "sessions.db").exists() and other.get_all(["s:1"])[0])


def test_a_file_that_may_not_grow_harms_nobody(path):
    def check():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = GuardedStore(SqliteBackend(path), time_limit=PATIENT, rest=SOON, first_rest=SOON)
        store.put(["s:before"], a_link(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for number in range(500):
            store.put([f"s:{number}"], a_link(number))
        return not store.is_up and all(store.get_all([f"s:{number}"])[0] for number in range(500))

    in_child(check)


@pytest.mark.slow
@pytest.mark.alone
async def test_a_locked_file_does_not_delay_another_task(path, other):
    store = GuardedStore(SqliteBackend(path))
    (await store.aget_all(["s:1"]))[0]
    with locked(path), Lateness() as late:
        async with gaps_of_another_task() as gaps:
            begun = time.perf_counter()
            await store.aput(["s:1"], a_link())
            took = time.perf_counter() - begun
    store.close()
    assert took > 0.035
    assert max(gaps) < late.limit(0.03)


def is_intact(path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_child_has_its_own_connection_and_its_parent_keeps_its(path, closing):
    store = closing(GuardedStore(SqliteBackend(path), time_limit=PATIENT))
    store.put(["s:1"], a_link(1))

    def check():
        store.put(["s:2"], a_link(2))
        found = [link.turn for link in store.get_all(["s:1", "s:2"])]
        store.close()
        return found == [1, 2] and open_files(path) == 0

    files = open_files(path)
    for _ in range(3):
        in_child(check)
        assert store.get_all(["s:2"])[0].turn == 2
    assert open_files(path) == files, "a fork closes nothing of the parent's"
    store.put(["s:3"], a_link(3))
    assert is_intact(path)


def open_files(path) -> int:
    """How often this process has the database open: a child that closes what it inherits has it no more."""
    return sum(os.path.realpath(f"/proc/self/fd/{fd}") == str(path) for fd in os.listdir("/proc/self/fd"))


def test_parents_and_children_that_write_at_once_lose_nothing_and_break_nothing(path, closing, other):
    """What a child inherits is closed beside a parent that goes on, and whose lock keeps the log where it is."""
    store = closing(GuardedStore(SqliteBackend(path), time_limit=PATIENT))
    store.put(["s:parent:0"], a_link(1))
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            for turn in range(1, 31):
                store.put([f"s:child:{number}", f"r:{number}:{turn}"], a_link(turn))
            store.close()
            os._exit(0)
        children.append(child)
        store.put([f"s:parent:{number}"], a_link(number + 1))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    store.close()
    assert is_intact(path)
    keys = [f"r:{number}:{turn}" for number in range(8) for turn in range(1, 31)]
    assert all(other.get_all(keys + [f"s:parent:{number}" for number in range(8)]))


def test_a_fork_waits_for_nothing_and_a_child_of_a_busy_file_does_without_it(path, closing, monkeypatch):
    backend = SqliteBackend(path)
    store = closing(GuardedStore(backend, time_limit=PATIENT, rest=SOON, first_rest=SOON))
    store.put(["s:1"], a_link(1))
    busy, release = threading.Event(), threading.Event()
    write = backend._write

    def slowly(file, ask):
        busy.set()
        assert release.wait(10)
        return write(file, ask)

    monkeypatch.setattr(backend, "_write", slowly)
    store.put_soon(["s:2"], a_link(2))
    assert busy.wait(10)

    def check():
        store.put(["s:3"], a_link(3))
        return not store.is_up and store.get_all(["s:1"])[0].turn == 1 and store.get_all(["s:3"])[0].turn == 3

    with Lateness() as late:
        begun = time.perf_counter()
        child = os.fork()
        if child == 0:
            os._exit(0)
        took = time.perf_counter() - begun
        os.waitpid(child, 0)
    assert took < late.limit(0.03)
    in_child(check)
    release.set()
    with contextlib.closing(sqlite_direct(path)) as other:
        until(lambda: other.get_all(["s:2"])[0])
    assert store.is_up


def test_a_store_at_rest_is_tidied_by_its_keeper_and_one_that_is_busy_when_it_must(path, closing):
    store = closing(GuardedStore(SqliteBackend(path), time_limit=PATIENT))
    for number in range(30):
        store.put([f"s:{number}:{part}" for part in range(20)], a_link(number + 1))
    until(lambda: os.path.getsize(path) > 40_000)  # what the log held
    names = {thread.name for thread in threading.enumerate() if "sqlite" in thread.name}
    assert names == {"otel-llm-sessions-sqlite"}


def test_many_threads_share_the_one_connection(path, closing):
    store = closing(GuardedStore(SqliteBackend(path), time_limit=PATIENT))

    def turns(number: int) -> None:
        for turn in range(1, 21):
            store.put([f"s:{number}"], a_link(turn))

    threads = [threading.Thread(target=turns, args=(number,)) for number in range(20)]
    run_all(threads)
    other = closing(sqlite_direct(path))
    assert [other.get_all([f"s:{number}"])[0].turn for number in range(20)] == [20] * 20


def test_what_waits_is_written_in_one_transaction(path, closing):
    backend = SqliteBackend(path)
    backend.serve([Lookup(("s:0",))])
    statements = []
    backend._file._connection.set_trace_callback(statements.append)
    asks = [Put([(f"s:{number}", a_link())]) for number in range(5)] + [Claim("root", b"t"), Lookup(("s:0",))]
    assert backend.serve(asks)[5:] == [True, [None]], "what is read is read first"
    assert sum(statement.startswith("BEGIN") for statement in statements) == 1
    assert sum(statement.startswith("COMMIT") for statement in statements) == 1
    backend.close()


PUT_AND_CLAIM = """
import sys
sys.path.insert(0, sys.argv[2])
from store_kit import a_link
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.sqlite import SqliteBackend
store, me = GuardedStore(SqliteBackend(sys.argv[1]), time_limit=30), sys.argv[3]
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
    closing(sqlite_direct(path)).get_all(["s:1"])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE scope SET name = ?", ("x" * 200_000,))
    store = closing(sqlite_direct(path))
    store.get_all(["s:1"])
    assert store.scope == "x" * 128
