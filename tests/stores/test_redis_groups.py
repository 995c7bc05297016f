"""More than one Redis: a cluster, a master that Sentinels watch; and the other ways to reach a single one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.crc import key_slot
from redis_groups import GROUPS, SLOTS, Cluster, Watched, group_of, sizes
from store_kit import SERVERS, Lateness, RedisServer, a_link, in_child, redis_direct, require_program
from waiting import AT_MOST, until

from otel_llm_sessions.sessions.keys import announced_key, session_key
from otel_llm_sessions.stores import redis_lines
from otel_llm_sessions.stores.codec import hashed
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.stores.redis import RedisBackend
from otel_llm_sessions.stores.shared import Lookup, Put
from otel_llm_sessions.testing import capture_spans

TURNS = 60


@pytest.fixture(scope="module", params=SERVERS)
def program(request) -> str:
    return require_program(request.param)


@pytest.fixture(scope="module", params=GROUPS)
def group(request, program, tmp_path_factory) -> Iterator[Cluster | Watched]:
    with group_of(request.param, tmp_path_factory.mktemp(request.param), program) as running:
        yield running


@pytest.fixture
def open_one(group, closing):
    return lambda: closing(GuardedStore(RedisBackend(group.url), time_limit=5))


def commands(group: Cluster | Watched, name: str) -> int:
    """How many commands of a name all servers have got."""
    nodes = group.nodes if isinstance(group, Cluster) else [group.master, group.replica]
    calls = [re.search(rb"cmdstat_%s:calls=(\d+)" % name.encode(), node.ask("INFO", "commandstats")) for node in nodes]
    return sum(int(found[1]) for found in calls if found)


def packets(group: Cluster | Watched) -> list[int]:
    """How many packets each master has read."""
    masters = group.nodes[:3] if isinstance(group, Cluster) else [group.master]
    return [int(re.findall(rb"total_reads_processed:(\d+)", node.ask("INFO", "stats"))[0]) for node in masters]


@pytest.mark.slow
class TestMoreThanOne:
    def test_what_one_process_puts_another_finds_and_one_of_them_gets_a_claim(self, group, open_one):
        one, other = open_one(), open_one()
        keys = [f"{kind}:{number}" for kind in "rsit" for number in range(TURNS)]
        for number in range(TURNS):
            one.put([f"{kind}:{number}" for kind in "rsit"], a_link(number + 1))
        assert [link.turn for link in other.get_all(keys)] == [*range(1, TURNS + 1)] * 4
        assert [one.claim("root"), other.claim("root"), one.claim("root")] == [True, False, False]
        assert one.scope == other.scope
        if isinstance(group, Cluster):
            assert min(sizes(group)) > TURNS / 2, "each master has a part"

    def test_a_late_turn_does_not_set_a_session_back(self, open_one):
        one, other = open_one(), open_one()
        one.put(["s:late"], a_link(3))
        other.put(["s:late"], a_link(2))
        assert open_one().get_all(["s:late"])[0].turn == 3

    async def test_callers_on_a_loop_are_served_too(self, open_one):
        store = open_one()
        await store.aput(["r:loop"], a_link(7))
        assert (await open_one().aget_all(["r:loop"]))[0].turn == 7
        assert await store.aclaim("loop")

    def test_a_chained_turn_asks_for_one_key_of_one_server(self, group, open_one):
        one, other = open_one(), open_one()
        one.put(["r:before"], a_link())
        other.get_all(["r:connected"])
        other.get_all(["r:connected too"])
        before = commands(group, "get")
        assert other.get_all(["r:before"])[0] is not None
        assert commands(group, "get") - before == 1

    def test_several_keys_are_one_packet_for_each_server(self, group, open_one):
        one, other, times = open_one(), open_one(), 20
        keys = [f"r:together {number}" for number in range(TURNS)]
        one.put(keys, a_link())
        other.get_all(["r:connected"])
        other.get_all([f"{key} connected" for key in keys])
        before = packets(group)
        for number in range(times):
            other.get_all([f"{key}, {number}" for key in keys])
        read = [after - so_far for after, so_far in zip(packets(group), before)]
        # A replica tells its master once a second how far it is, and the number itself is asked for.
        assert all(times <= number < 2 * times for number in read), f"{TURNS} keys, {times} times: {read}"

    def test_an_application_names_it_in_its_environment(self, group, open_one, monkeypatch, client):
        monkeypatch.setenv("OTEL_LLM_SESSIONS_STORE", group.url)
        with capture_spans():
            response = client.responses.create(model="gpt-4o-mini", input="Hello")
        until(lambda: open_one().get_all([f"r:{response.id}"])[0])

    def test_a_child_has_connections_of_its_own(self, open_one):
        store = open_one()
        store.put(["r:parent"], a_link(1))

        def check():
            store.put(["r:child"], a_link(2))
            return [link.turn for link in store.get_all(["r:parent", "r:child"])] == [1, 2]

        in_child(check)
        assert open_one().get_all(["r:child"])[0].turn == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", GROUPS)
def test_a_master_that_dies_hurts_no_call_and_what_was_made_meanwhile_is_there_when_it_is_replaced(
    kind, program, tmp_path, closing
):
    with group_of(kind, tmp_path, program) as group:
        store = closing(open_store(group.url))
        other = closing(open_store(group.url))
        made = [f"r:{number}" for number in range(TURNS)]
        for number, key in enumerate(made):
            store.put([key, f"s:{number % 7}"], a_link(number + 1))
        until(lambda: all(other.get_all(made)))
        time.sleep(0.5)  # what a master has said, and its replica has not heard, a failover loses
        group.kill_a_master()
        took = []
        with Lateness() as late:
            deadline = time.monotonic() + 30
            while not group.has_failed_over():
                assert time.monotonic() < deadline, "it was not replaced"
                made.append(f"r:{len(made)}")
                begun = time.perf_counter()
                store.put([made[-1], f"s:{len(made) % 7}"], a_link(len(made)))
                store.get_all([f"s:{len(made) % 7}", f"r:unknown {len(made)}"])
                took.append(time.perf_counter() - begun)
                time.sleep(0.02)
        assert max(took) < late.limit(0.15)
        assert sorted(took)[len(took) // 2] < 0.02
        until(lambda: store.is_up and other.is_up and other.get_all(["s:0"])[0])
        third = closing(GuardedStore(RedisBackend(group.url), time_limit=5))
        until(lambda: all(third.get_all(made)))


@pytest.mark.slow
def test_a_part_of_a_cluster_that_is_gone_keeps_nobody_from_the_rest(program, tmp_path, closing):
    with group_of("cluster", tmp_path, program) as group:
        backend = redis_direct(group.url)
        links = {f"r:{number}": a_link(number + 1) for number in range(TURNS)}
        backend.put_all(list(links.items()))
        for node in (group.nodes[0], group.nodes[3]):
            node.kill()
        found = closing(backend)
        answers = {key: _or_none(found, key) for key in links}
        assert TURNS / 3 < sum(answer is not None for answer in answers.values()) < TURNS


@pytest.mark.slow
def test_in_one_round_trip_no_server_of_a_cluster_waits_until_another_has_answered(
    program, tmp_path, closing, monkeypatch
):
    """So what a turn announces together with its question is there though the question's server is late."""
    monkeypatch.setattr(redis_lines, "PATIENCE", 2 * AT_MOST)  # nobody is given up meanwhile
    with group_of("cluster", tmp_path, program) as group, ThreadPoolExecutor(1) as pool:
        names = map(str, range(100))
        session = next(name for name in names if master_of(session_key(name)) != master_of(announced_key(name)))
        question, notice = session_key(session), announced_key(session)
        asked, announced = (group.nodes[master_of(key)] for key in (question, notice))
        backend = closing(RedisBackend(group.url))
        backend.serve([Lookup([f"r:{number}" for number in range(TURNS)])])
        before = announced.ask("DBSIZE")
        with asked.frozen():
            answer = pool.submit(backend.serve, [Lookup((question,)), Put([(notice, a_link())])])
            until(lambda: announced.ask("DBSIZE") != before)
            assert not answer.done()
        assert answer.result(AT_MOST) == [[None], None]


def master_of(key: str) -> int:
    """Which master has a key."""
    return key_slot(hashed(key)) * 3 // SLOTS


def _or_none(store, key):
    try:
        return store.get_all([key])[0]
    except Exception:
        return None


# --- other names of one ---------------------------------------------------------------------------------------


def test_valkey_is_a_name_of_redis(redis_server, closing):
    one, other = (
        closing(open_store(redis_server.url)),
        closing(open_store(redis_server.url.replace("redis:", "valkey:"))),
    )
    one.put(["r:1"], a_link())
    until(lambda: other.get_all(["r:1"])[0])


def test_a_socket_is_a_way_to_redis(program, tmp_path, closing):
    path = tmp_path / "redis.sock"
    server = RedisServer(tmp_path, "--unixsocket", str(path), program=program)
    server.start()
    try:
        one, other = closing(open_store(f"unix://{path}?db=1")), closing(open_store(server.url.replace("/0", "/1")))
        one.put(["r:1"], a_link())
        until(lambda: other.get_all(["r:1"])[0])
    finally:
        server.kill()
