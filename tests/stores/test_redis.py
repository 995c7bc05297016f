"""The Redis store, on a real Redis: round trips, size, faults, forks and loops."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
import time

import pytest
import trustme
from store_kit import (
    Lateness,
    Proxy,
    RedisServer,
    a_link,
    assert_held_up,
    calls_of,
    free_port,
    in_child,
    put_and_got,
    redis_backend,
    redis_direct,
)
from tls_front import TlsFront
from waiting import gaps_of_another_task, run_all, until

from otel_llm_sessions.stores.codec import hashed
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.stores.shared import StoreDown, StoreRefused

SOON = 0.05


@pytest.fixture
def proxy(redis_server, closing):
    return closing(Proxy(redis_server.port))


@pytest.fixture
def guarded(closing):
    """Open a guarded store that comes back soon."""
    return lambda url, **options: closing(GuardedStore(redis_backend(url), rest=SOON, first_rest=SOON, **options))


def round_trips(proxy, call) -> int:
    before = proxy.sent
    call()
    return proxy.sent - before


def test_each_operation_is_one_round_trip(proxy, closing):
    store = closing(GuardedStore(redis_backend(proxy.url), time_limit=5))
    store.get_all(["s:0"])[0]
    assert round_trips(proxy, lambda: store.get_all(["s:1", "r:1", "i:1"])) == 1
    assert round_trips(proxy, lambda: store.put(["r:1", "s:1", "i:1"], a_link())) == 1
    assert round_trips(proxy, lambda: store.claim("1")) == 1
    assert round_trips(proxy, lambda: store.get_all(["r:1", "i:1"])) == 0
    assert round_trips(proxy, lambda: store.get_all(["s:1"])[0]) == 1
    assert round_trips(proxy, lambda: store.claim("1")) == 0


def test_the_first_operation_of_a_process_is_one_round_trip_too(proxy, closing):
    store = closing(redis_direct(proxy.url))
    assert round_trips(proxy, lambda: store.get_all(["s:1"])[0]) == 1


async def test_each_operation_on_a_loop_is_one_round_trip(proxy, closing):
    store = closing(GuardedStore(redis_backend(proxy.url), time_limit=5))
    before = proxy.sent
    await store.aget_all(["s:1", "r:1"])
    await store.aput(["r:1", "s:1"], a_link())
    await store.aclaim("1")
    (await store.aget_all(["r:1"]))[0]
    assert proxy.sent - before == 3


def test_a_record_takes_at_most_400_bytes_all_told(redis_server, closing):
    store = closing(redis_direct(redis_server.url))
    store.get_all(["s:1"])[0]

    def used() -> int:
        return int(re.search(rb"used_memory:(\d+)", redis_server.ask("INFO", "memory"))[1])

    number, before = 5_000, used()
    for begin in range(0, number, 500):
        store.put_all([(f"r:{i}", a_link(i, f"resp_{i:050x}")) for i in range(begin, begin + 500)])
    assert (used() - before) / number < 400


def test_all_keys_expire_but_the_scope(redis_server, closing):
    store = closing(redis_direct(redis_server.url, ttl=100))
    store.get_all(["s:1"])[0]
    store.put(["s:1", "r:1"], a_link())
    store.claim("1")
    found = re.search(rb"keys=(\d+),expires=(\d+)", redis_server.ask("INFO", "keyspace"))
    assert (found[1], found[2]) == (b"4", b"3")


def test_no_id_is_readable_in_a_key(redis_server, closing):
    store = closing(redis_direct(redis_server.url))
    store.put(["s:my-secret-session"], a_link())
    store.claim("my-secret-session")
    keys = redis_server.ask("KEYS", "*")
    assert keys.startswith(b"*3\r\n"), "the link, the claim and the scope"
    assert b"secret" not in keys


def test_garbage_and_newer_records_are_unknown(redis_server, closing):
    store = closing(redis_direct(redis_server.url))
    store.put(["s:1"], a_link())
    key = hashed("s:1")
    for record in (b"garbage", b"\x01older", b"\xffnewer"):
        with socket.create_connection(("127.0.0.1", redis_server.port)) as connection:
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$20\r\n%b\r\n$%d\r\n%b\r\n" % (key, len(record), record))
            assert connection.recv(100) == b"+OK\r\n"
        assert store.get_all(["s:1"])[0] is None
        store.put(["s:1"], link := a_link())
        assert store.get_all(["s:1"]) == [link]


@pytest.fixture
def over_tls(redis_server, tmp_path):
    """The URL of a Redis that is reached over TLS, and the file with the certificate to trust."""
    authority = trustme.CA()
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with TlsFront(redis_server.port, context) as front:
        yield f"rediss://127.0.0.1:{front.port}/0", trusted


async def test_rediss_is_redis_over_tls(over_tls, closing):
    url, certificate = over_tls
    one, other = (
        closing(GuardedStore(redis_backend(f"{url}?ssl_ca_certs={certificate}"), time_limit=5)) for _ in range(2)
    )
    one.put(["s:1"], a_link(1))
    assert ((await other.aget_all(["s:1"]))[0]).turn == 1
    await other.aput(["s:1"], a_link(2))
    assert one.get_all(["s:1"])[0].turn == 2


async def test_a_certificate_that_nobody_trusts_is_no_redis(over_tls, closing):
    url, _ = over_tls
    with pytest.raises(StoreDown, match="(?i)certificate"):
        closing(redis_direct(url)).get_all(["s:1"])


def test_a_connection_that_redis_dropped_is_made_anew(redis_server, closing):
    store = closing(redis_direct(redis_server.url))
    store.put(["s:1"], a_link())
    redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert store.get_all(["s:1"])[0] is not None


async def test_a_connection_of_a_loop_that_redis_dropped_is_made_anew(redis_server, closing):
    store = closing(GuardedStore(redis_backend(redis_server.url), time_limit=5))
    await store.aput(["s:1"], a_link())
    redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert (await store.aget_all(["s:1"]))[0] is not None


def test_redis_that_is_killed_and_restarted_loses_nothing(own_redis, guarded):
    one, two = guarded(own_redis.url), guarded(own_redis.url)
    one.put(["s:before"], a_link(1, "before"))
    until(lambda: two.get_all(["s:before"])[0])
    own_redis.kill()
    assert_held_up(calls_of(one, "during"))
    one.put(["s:during"], a_link(2, "during"))
    assert one.get_all(["s:before"])[0].turn == 1
    own_redis.start()
    until(lambda: one.is_up and two.get_all(["s:during"])[0])
    until(lambda: two.get_all(["s:before"])[0])
    fresh = guarded(own_redis.url)
    until(lambda: fresh.get_all(["s:before"])[0] and fresh.get_all(["s:during"])[0])
    assert fresh.get_all(["s:during"])[0].turn == 2
    assert not fresh.claim("during")


def test_redis_that_lost_everything_between_two_calls_is_told_again(redis_server, guarded):
    one, two = guarded(redis_server.url, time_limit=5), guarded(redis_server.url, time_limit=5)
    one.put(["s:1", "r:1"], a_link())
    one.get_all(["s:1"])[0]
    redis_server.ask("FLUSHALL")
    assert one.get_all(["s:1"])[0] is not None
    until(lambda: one.get_all(["s:1"])[0] and two.get_all(["r:1"])[0])


def test_redis_that_never_answers_holds_up_one_call(own_redis, guarded):
    store = guarded(own_redis.url)
    store.put(["s:1"], a_link())
    with own_redis.frozen():
        assert_held_up(calls_of(store, "2"))
        assert store.get_all(["s:1"])[0].turn == 1
    other = guarded(own_redis.url)
    until(lambda: other.get_all(["s:2"])[0])


def test_a_server_that_takes_connections_and_never_answers_holds_up_one_call(closing):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for url in (f"redis://127.0.0.1:{port}/1", f"rediss://:password@127.0.0.1:{port}/0"):
            store = open_store(url)
            assert_held_up(calls_of(store))
            store.close()
        until(lambda: not any("redis" in thread.name for thread in threading.enumerate()))


async def test_a_server_that_never_answers_holds_up_one_call_on_a_loop(closing):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = closing(open_store(f"redis://127.0.0.1:{listener.getsockname()[1]}/1"))
        with Lateness() as late:
            begun = time.perf_counter()
            assert (await store.aget_all(["s:1"]))[0] is None
            await store.aput(["s:1"], a_link())
            assert await store.aclaim("1")
            assert ((await store.aget_all(["s:1"]))[0]).turn == 1
            took = time.perf_counter() - begun
        assert took < late.limit(0.06)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as asyncio.run does with what is still connecting


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_who_only_writes_notices_too_that_redis_was_restarted_empty(own_redis, guarded, asynchronous):
    store, other = (guarded(own_redis.url, time_limit=5) for _ in range(2))

    def put(keys):
        asyncio.run(store.aput(keys, a_link())) if asynchronous else store.put(keys, a_link())

    put(["s:before"])
    own_redis.kill()
    own_redis.start()
    put(["s:after"])
    until(lambda: other.get_all(["s:before"])[0])


def test_no_redis_at_all_holds_up_no_call(closing):
    assert_held_up(calls_of(closing(open_store(f"redis://127.0.0.1:{free_port()}"))))


def test_a_redis_that_is_full_is_read_and_written_when_it_has_room(redis_server, guarded):
    store, other = guarded(redis_server.url, time_limit=5), guarded(redis_server.url, time_limit=5)
    other.put(["s:other"], a_link(7))
    redis_server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    store.put(["s:1"], a_link())
    assert store.claim("1")
    assert not store.is_up
    assert store.get_all(["s:other"])[0].turn == 7
    assert store.get_all(["s:1"])[0].turn == 1
    redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    until(lambda: store.is_up and redis_server.ask("DBSIZE") == b":4\r\n")  # its scope, two sessions, a claim
    assert other.get_all(["s:1"])[0].turn == 1
    assert not other.claim("1")


def test_the_store_itself_says_what_is_wrong(redis_server, closing):
    store = closing(redis_direct(redis_server.url))
    store.get_all(["s:1"])[0]
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreRefused, match="maxmemory"):
        store.put(["s:1"], a_link())
    with pytest.raises(StoreDown):
        closing(redis_direct(f"redis://127.0.0.1:{free_port()}")).get_all(["s:1"])


async def test_a_slow_redis_does_not_delay_another_task(proxy, closing):
    store = closing(GuardedStore(redis_backend(proxy.url), time_limit=5))
    (await store.aget_all(["s:1"]))[0]
    proxy.delay = 0.05
    with Lateness() as late:
        async with gaps_of_another_task() as gaps:
            begun = time.perf_counter()
            await store.aput(["s:1"], a_link())
            took = time.perf_counter() - begun
    assert took > 0.05
    assert max(gaps) < late.limit(0.03)


def test_a_connection_that_takes_long_to_make_is_used_once_it_is_made(proxy, closing):
    proxy.delay = 0.1  # for each of SELECT and the command
    url = proxy.url[:-1] + "1"
    store = closing(GuardedStore(redis_backend(url), time_limit=0.15))
    store.put(["s:1"], a_link())
    other = closing(redis_direct(url))
    until(lambda: other.get_all(["s:1"])[0])
    assert store.is_up


def test_at_the_end_of_the_interpreter_what_waits_is_written_without_a_thread(redis_server, monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")  # Python 3.12

    store = GuardedStore(redis_backend(redis_server.url))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        store.put(["s:1"], a_link(1))
        assert store.claim("root")
        store.close()
    with contextlib.closing(redis_direct(redis_server.url)) as other:
        assert other.get_all(["s:1"])[0].turn == 1
        assert not other.claim("root")


def clients(server: RedisServer) -> set[bytes]:
    """The addresses of all connections but the one that asks."""
    return set(re.findall(rb"addr=(\S+) .* cmd=(?!client)", server.ask("CLIENT", "LIST")))


def test_a_child_makes_its_own_connection_and_its_parent_keeps_its(redis_server, closing):
    store = closing(GuardedStore(redis_backend(redis_server.url), time_limit=5))
    store.put(["s:1"], a_link())
    before = clients(redis_server)

    def check():
        store.put(["s:2"], a_link(2))
        found = [link.turn for link in store.get_all(["s:1", "s:2"])]
        return found == [1, 2] and before < clients(redis_server)

    in_child(check)
    assert store.get_all(["s:2"])[0].turn == 2
    assert before <= clients(redis_server)


def test_a_child_runs_a_loop_of_its_own(redis_server, closing):
    store = closing(GuardedStore(redis_backend(redis_server.url), time_limit=5))

    async def parent():
        await put_and_got(store)
        await asyncio.to_thread(in_child, lambda: asyncio.run(put_and_got(store)))
        return await put_and_got(store)

    assert asyncio.run(parent()).turn == 1


def test_a_process_has_one_connection_however_many_threads_and_tasks_ask(redis_server, closing):
    def connections() -> int:
        return len(clients(redis_server))

    before = connections()
    store = closing(GuardedStore(redis_backend(redis_server.url), time_limit=5))
    threads = [threading.Thread(target=store.put, args=(["s:1"], a_link())) for _ in range(100)]
    run_all(threads)

    async def tasks():
        return await asyncio.gather(*(store.aget_all([f"s:{number}"]) for number in range(400)))

    found = asyncio.run(tasks())
    assert found[1][0].turn == 1
    assert connections() - before == 1
    assert store.is_up


def test_a_scope_that_somebody_else_wrote_is_bounded(redis_server, closing):
    redis_server.ask("SETRANGE", "ols:scope", "200000", "x")
    store = closing(redis_direct(redis_server.url))
    store.get_all(["s:1"])
    assert len(store.scope) <= 128
    assert store.claim("1")


@pytest.mark.parametrize(("number", "more"), [(0, ()), (1, ("+select",))])
def test_a_user_of_redis_needs_no_other_commands_and_keys_than_the_docs_say(own_redis, closing, number, more):
    allowed = ("on", ">secret", "~ols:*", "+get", "+set", "+del", "+eval", *more)
    own_redis.ask("ACL", "SETUSER", "sessions", "reset", *allowed)
    url = f"redis://sessions:secret@127.0.0.1:{own_redis.port}/{number}"
    store = closing(GuardedStore(redis_backend(url), time_limit=5))
    assert store.get_all(["s:1", "r:1"]) == [None, None]
    link = a_link()
    store.put(["s:1", "r:1"], link)
    assert store.claim("1")
    another = closing(GuardedStore(redis_backend(url), time_limit=5))
    assert another.get_all(["s:1"]) == [link]
    assert not another.claim("1")
    assert own_redis.ask("ACL", "LOG") == b"*0\r\n"
    assert store.is_up
    assert another.is_up
