"""``session(...)``, ``current_session()`` and ``SessionSpanProcessor``: what an application says (docs/sessions.md)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, get_current, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from session_kit import BOTH_MODES, ask, calls, sessions_of
from waiting import run_all

from otel_llm_sessions import Session, SessionSpanProcessor, current_session, session, session_trace_id
from otel_llm_sessions.testing import capture_spans

# --- the forms ----------------------------------------------------------------------------------------------


@BOTH_MODES
def test_a_with_block_names_the_session_of_what_is_inside_and_of_nothing_after(client, spans):
    with session("mine") as named:
        assert named == Session("mine") == current_session()
        ask(client)
        client.responses.create(model="m", input="x")
    assert current_session() is None
    ask(client)
    assert sessions_of(spans) == ["mine", "mine", None]
    assert [span.attributes.get("llm_session.source") for span in calls(spans)] == ["context", "context", None]
    assert [span.attributes.get("llm_session.turn") for span in calls(spans)] == [1, 2, None]


@BOTH_MODES
async def test_an_async_with_block_does_the_same(async_client, spans):
    async with session("mine") as named:
        assert named == current_session()
        await ask(async_client)
    await ask(async_client)
    assert sessions_of(spans) == ["mine", None]


@BOTH_MODES
def test_a_decorated_function_runs_inside_the_session(client, spans):
    @session("mine")
    def answer(question: str) -> str:
        """Answers."""
        ask(client)
        return question.upper()

    assert answer("why") == "WHY"
    assert (answer.__name__, answer.__doc__) == ("answer", "Answers.")
    ask(client)
    assert sessions_of(spans) == ["mine", None]


async def test_a_decorated_coroutine_function_runs_inside_the_session(async_client, spans):
    @session("mine")
    async def answer() -> Session | None:
        await ask(async_client)
        return current_session()

    assert asyncio.iscoroutinefunction(answer)
    assert await answer() == Session("mine")
    assert sessions_of(spans) == ["mine"]


def test_without_an_id_each_entrance_is_a_session_of_its_own():
    seen = []

    @session()
    def work() -> None:
        seen.append(current_session())

    work()
    work()
    with session() as third, session() as fourth:
        seen += [third, fourth]
    assert len({named.id for named in seen}) == 4


def test_a_number_is_an_id():
    with session(42) as named:
        assert named.id == "42"


@pytest.mark.parametrize("id_", ["", "x" * 257, "a\nb", True, [], b"x"])
def test_a_wrong_id_is_refused_with_what_is_allowed(id_):
    with pytest.raises(ValueError, match="1 to 256"):
        session(id_)


@BOTH_MODES
def test_sessions_nest(client, spans):
    with session("outer"):
        ask(client)
        with session("inner"):
            ask(client)
        ask(client)
    assert sessions_of(spans) == ["outer", "inner", "outer"]


@BOTH_MODES
def test_an_exception_leaves_the_session(client, spans):
    with pytest.raises(RuntimeError), session("mine"):
        raise RuntimeError
    ask(client)
    assert sessions_of(spans) == [None]


def test_a_request_that_names_a_session_itself_wins(client, spans):
    with session("around"):
        client.responses.create(model="m", input="x", metadata={"session_id": "own"})
        client.responses.create(model="m", input="x")
    assert sessions_of(spans) == ["own", "around"]


# --- where contexts go wrong --------------------------------------------------------------------------------


def test_a_context_that_leaks_inside_the_block_does_not_prolong_the_session():
    with session("mine"):
        attach(set_value("leaky", 1))
    assert current_session() is None


def test_an_inner_session_that_is_never_left_ends_with_the_outer_one():
    inner = session("inner")
    with session("outer"):
        inner.__enter__()
    assert current_session() is None
    inner.__exit__(None, None, None)
    assert get_current() == Context()


def test_one_object_may_be_entered_twice_and_by_many_threads():
    one = session("mine")
    both_inside, left, after = threading.Barrier(2), threading.Event(), []

    def first() -> None:
        with one:
            both_inside.wait(5)
        after.append(current_session())
        left.set()

    def second() -> None:
        with one:
            both_inside.wait(5)
            left.wait(5)
            after.append(current_session())
        after.append(current_session())

    workers = [threading.Thread(target=target) for target in (first, second)]
    run_all(workers)
    assert after == [None, Session("mine"), None]
    with one, one:
        assert current_session() == Session("mine")
    assert current_session() is None


async def test_an_async_generator_closed_in_another_task_disturbs_nobody():
    async def generate():
        with session("mine"):
            yield current_session()

    agen = generate()

    async def consume():
        return await anext(agen)

    assert await asyncio.create_task(consume()) == Session("mine")
    async with session("other"):
        await asyncio.create_task(agen.aclose())
        assert current_session() == Session("other")
    assert current_session() is None


# --- tasks ------------------------------------------------------------------------------------------------


async def test_tasks_and_to_thread_belong_to_the_session(async_client, client, spans):
    async with session("mine"):
        task = asyncio.create_task(ask(async_client))
        await asyncio.to_thread(ask, client)
        await asyncio.get_running_loop().run_in_executor(None, ask, client)
    await task
    await ask(async_client)
    assert sorted(map(str, sessions_of(spans))) == ["None", "mine", "mine", "mine"]


async def test_concurrent_tasks_keep_their_sessions_apart(async_client, spans):
    async def talk(name: str) -> None:
        async with session(name):
            first = await async_client.responses.create(model="m", input="x")
            await async_client.responses.create(model="m", input="x", previous_response_id=first.id)

    await asyncio.gather(*(talk(f"s{number}") for number in range(5)))
    for number in range(5):
        turns = [span for span in spans.of_session(f"s{number}") if span.name.startswith("chat")]
        assert [span.attributes["llm_session.turn"] for span in turns] == [1, 2]
        assert len({span.context.trace_id for span in turns}) == 1


# --- every span inside --------------------------------------------------------------------------------------


def test_every_span_started_inside_is_stamped_whoever_starts_it(client):
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")
    with capture_spans(tracer_provider=provider) as spans:
        with session("mine"), tracer.start_as_current_span("tool"):
            ask(client)
        with tracer.start_as_current_span("outside"):
            pass
    stamped = {span.name: span.attributes.get("session.id") for span in spans}
    assert stamped == {"tool": "mine", "chat m": "mine", "session": "mine", "outside": None} | {
        name: "mine" for name in stamped if name == "turn"
    }


def test_the_processor_leaves_a_session_id_that_is_there():
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SessionSpanProcessor())
    with session("mine"):
        span = provider.get_tracer("x").start_span("x", attributes={"session.id": "theirs"})
        other = provider.get_tracer("x").start_span("x")
    assert (span.attributes["session.id"], other.attributes["session.id"]) == ("theirs", "mine")


def test_under_suppression_a_session_is_named_and_nothing_is_emitted(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans, suppress_instrumentation(), session("mine"):
        ask(client)
        provider.get_tracer("x").start_span("the application's own").end()
        named = current_session()
    assert named == Session("mine")
    assert [(span.name, span.attributes.get("session.id")) for span in spans] == [("the application's own", None)]


async def test_under_suppression_an_async_block_emits_nothing_either(async_client, spans):
    with suppress_instrumentation():
        async with session("mine"):
            await ask(async_client)
            assert current_session() == Session("mine")
    assert list(spans) == []


def test_an_inner_block_of_another_session_sends_none_of_the_outer_ones_baggage():
    with session("outer", propagate=True):
        with session("inner"):
            assert baggage.get_baggage("session.id") is None
            with session("third", propagate=True):
                assert baggage.get_baggage("session.id") == "third"
        with session("outer"):
            assert baggage.get_baggage("session.id") == "outer"


def test_propagate_sets_baggage_that_ends_with_the_block():
    with session("mine", propagate=True):
        assert baggage.get_baggage("session.id") == "mine"
        with session("quiet"):
            assert current_session() == Session("quiet")
    assert baggage.get_baggage("session.id") is None


def test_without_instrumentation_session_still_names(client):
    with session("mine"):
        assert current_session() == Session("mine")
        assert not trace.get_current_span().get_span_context().is_valid


# --- where it stands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["with", "async with", "decorator"])
def test_without_an_ambient_span_all_inside_becomes_part_of_the_session_trace(client, kind):
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")

    def work() -> None:
        with tracer.start_as_current_span("tool"):
            pass
        ask(client)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask, client).result()

    async def awork() -> None:
        async with session("mine"):
            work()

    with capture_spans(tracer_provider=provider) as spans:
        if kind == "with":
            with session("mine"):
                work()
        elif kind == "async with":
            asyncio.run(awork())
        else:
            session("mine")(work)()
    (root,) = [span for span in spans if span.name == "session"]
    inside = [span for span in spans if span.name != "session"]
    assert f"{root.context.trace_id:032x}" == session_trace_id("mine")
    assert sorted(span.name for span in inside) == ["chat m", "chat m", "tool"]
    assert {span.parent.span_id for span in inside} == {root.context.span_id}


@pytest.mark.parametrize("kind", ["with", "async with", "decorator"])
def test_under_an_ambient_span_session_only_names(client, kind):
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")

    def work() -> None:
        with tracer.start_as_current_span("tool"):
            pass

    async def awork() -> None:
        async with session("mine"):
            work()

    with capture_spans(tracer_provider=provider) as spans, tracer.start_as_current_span("request") as request:
        if kind == "with":
            with session("mine"):
                work()
        elif kind == "async with":
            asyncio.run(awork())
        else:
            session("mine")(work)()
    (tool,) = [span for span in spans if span.name == "tool"]
    assert tool.parent.span_id == request.get_span_context().span_id
    assert tool.attributes["session.id"] == "mine"
    assert not [span for span in spans if span.name == "session"]


def test_a_session_inside_a_session_has_its_own_trace(client, spans):
    with session("outer"):
        with session("inner"):
            ask(client)
        ask(client)
    inner, outer = calls(spans)
    assert f"{inner.context.trace_id:032x}" == session_trace_id("inner")
    assert f"{outer.context.trace_id:032x}" == session_trace_id("outer")
    assert [span.name for span in spans].count("turn") == 0


def test_a_session_below_a_tool_of_another_session_gets_a_marker(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans, session("outer"):
        with provider.get_tracer("x").start_as_current_span("tool"), session("inner"):
            ask(client)
    (call,), (marker,) = calls(spans), [span for span in spans if span.name == "turn"]
    assert f"{call.context.trace_id:032x}" == session_trace_id("outer")
    assert f"{marker.context.trace_id:032x}" == session_trace_id("inner")
    assert marker.links[0].context.span_id == call.context.span_id


def test_a_call_of_another_session_inside_goes_into_its_own_trace(client, spans):
    with session("around"):
        client.responses.create(model="m", input="x", metadata={"session_id": "own"})
    (call,) = calls(spans)
    assert f"{call.context.trace_id:032x}" == session_trace_id("own")


def test_entering_a_session_often_counts_no_turns(client):
    with capture_spans(max_turns=4) as spans:
        for _ in range(4):
            with session("mine"), contextlib.suppress(ZeroDivisionError):
                ask(client)
        roots = [span for span in spans if span.name == "session"]
    assert [span.attributes["llm_session.part"] for span in roots] == [1]
