"""A turn's number is above that of the turn which it follows, also where nothing is heard of that one yet."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from echo_kit import (
    called,
    chunks,
    completion,
    events,
    function_call,
    gave_back,
    in_pieces,
    message,
    output_of,
    reasoning,
    response,
    said,
    tool_call,
    user,
    without_ids,
)
from held_backend import HeldBackend
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from session_kit import calls
from waiting import AT_MOST, until

from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import capture_spans

CHAT, RESPONSES = "/chat/completions", "/responses"
FAILS = {"extra_headers": {"x-loopback-mode": "status=500"}}
CACHED = {"prompt_cache_key": f"agents-sdk:session:{7:032x}"}


class Agent:
    """Somebody who keeps a history without ids of texts, and sends all of it each time.

    It begins with a step that another client has seen: the store is asked for that in each turn.
    """

    def __init__(self, api: Any, server: Any, kind: str) -> None:
        self.api, self.server, self.is_chat = api, server, kind == "chat"
        tool: Any = tool_call() if self.is_chat else function_call()
        step = [called(tool), *gave_back(tool)] if self.is_chat else [tool, output_of(tool)]
        self.history: list[Any] = [user(), *step, user()]
        self.resource = api.client.chat.completions if self.is_chat else api.client.responses

    def turn(self, *, tool: bool = False, stream: bool = False, delay: float = 0.0) -> None:
        """Make a call that brings a tool's call or words, and read it."""
        made = self.made(tool=tool)
        self.answered_by(made, stream=stream, delay=delay)
        reply = self.asked(stream=stream)
        if stream:
            self.api.read(reply)
        self.go_on_from(made)

    def made(self, *, tool: bool) -> Any:
        if self.is_chat:
            return completion(called(tool_call()) if tool else said())
        return response(*([reasoning(), function_call()] if tool else [message()]))

    def answered_by(self, made: Any, *, stream: bool = False, delay: float = 0.0) -> None:
        path = CHAT if self.is_chat else RESPONSES
        if not stream:
            return self.server.script(made, path=path, delay=delay)
        if not self.is_chat:
            return self.server.script_stream(events(made), path=path)
        tools = made["choices"][0]["message"].get("tool_calls")
        deltas = in_pieces(tools) if tools else [{"content": "Hi"}]
        return self.server.script_stream(chunks(made, deltas, "tool_calls" if tools else "stop"), path=path)

    def asked(self, **arguments: Any) -> Any:
        name = "messages" if self.is_chat else "input"
        return self.api.finish(self.resource.create(model="m", **{name: list(self.history)}, **arguments))

    def go_on_from(self, made: Any) -> None:
        if self.is_chat:
            answer = made["choices"][0]["message"]
            tools = answer.get("tool_calls")
            self.history += [answer, *(gave_back(*tools) if tools else [user()])]
        else:
            *_, last = made["output"]
            is_tool = last["type"] == "function_call"
            self.history += [*without_ids(last), output_of(last) if is_tool else user()]

    def fails(self) -> None:
        with pytest.raises(openai.InternalServerError):
            self.asked(**FAILS)

    def read_as_far_as_its_tool_call(self) -> Any:
        """Make a call that brings one, and leave its stream open once it is there; return that."""
        self.answered_by(made := self.made(tool=True), stream=True)
        stream = self.asked(stream=True)
        for _ in range(5):
            self.api.finish(anext(stream)) if hasattr(stream, "__anext__") else next(stream)
        self.go_on_from(made)
        return stream


@pytest.fixture(params=["chat", "responses"])
def agent(request: Any, api: Any, server: Any) -> Agent:
    return Agent(api, server, request.param)


class Late:
    """A store that is late to answer, and what comes of its answers later still."""

    def __init__(self) -> None:
        self.backend = HeldBackend()
        self.store = GuardedStore(self.backend)

    @contextlib.contextmanager
    def answers_late(self) -> Iterator[None]:
        """The store answers when this is left."""
        with self.backend.held(self.store):
            yield
        assert self.store.ask(["anything"]).wait(AT_MOST), "what was asked before has been answered"

    @contextlib.contextmanager
    def nothing_is_done(self) -> Iterator[None]:
        """Nothing is done beside the application, whatever is answered."""
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            go_on.wait(AT_MOST)

        beside.first(wait)
        begun.wait(AT_MOST)
        try:
            yield
        finally:
            go_on.set()


@pytest.fixture
def late() -> Late:
    return Late()


def numbers(spans: Any, count: int, *, after: int = 0) -> list[int]:
    """The numbers of so many turns, as they began, all of one session; ``after`` others that began before."""
    until(lambda: len(calls(spans)) == after + count)
    told = sorted(calls(spans), key=lambda span: span.start_time)[after:]
    assert len({span.attributes["session.id"] for span in told}) == 1
    return [span.attributes["llm_session.turn"] for span in told]


@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_without_ids_is_waited_for_by_the_next(agent, late, traces, stream):
    with capture_spans(store=late.store, traces=traces) as spans:
        agent.turn(tool=True)
        with late.nothing_is_done():
            with late.answers_late():
                agent.turn(stream=stream)
            agent.turn(stream=stream)
        agent.turn()
        assert numbers(spans, 4) == [1, 2, 3, 4]


def test_turns_of_which_nothing_is_heard_are_counted_before_their_trace_is_claimed(agent, late):
    """Each opens a part of its session's trace: the store is asked for that when it has said whose turn it is."""
    with capture_spans(store=late.store, max_turns=1) as spans:
        agent.turn(tool=True)
        with late.answers_late():
            for _ in range(3):
                agent.turn()
        assert numbers(spans, 4) == [1, 2, 3, 4]


def test_a_turn_that_fails_is_made_again_with_the_same_number(agent, late):
    with capture_spans(store=late.store) as spans:
        agent.turn(tool=True)
        with late.nothing_is_done():
            with late.answers_late():
                agent.fails()
            agent.turn()
        agent.turn()
        assert numbers(spans, 4) == [1, 2, 2, 3]


def test_a_turn_that_fails_amid_texts_is_made_again_with_the_same_number(agent, late):
    with capture_spans(store=late.store) as spans:
        agent.turn(tool=True)
        agent.turn()
        with late.nothing_is_done():
            with late.answers_late():
                agent.fails()
                agent.fails()
            agent.turn()
        agent.turn()
        assert numbers(spans, 6) == [1, 2, 3, 3, 3, 4]


def test_a_turn_that_begins_at_a_step_which_nobody_knows_is_waited_for(agent, late):
    agent.history.pop()
    with capture_spans(store=late.store) as spans:
        with late.nothing_is_done():
            with late.answers_late():
                agent.turn(tool=True)
            agent.turn()
        agent.turn()
        assert numbers(spans, 3) == [1, 2, 3]


def test_a_turn_with_a_prompt_cache_key_is_waited_for(agent, late):
    with capture_spans(store=late.store) as spans:
        agent.asked(**CACHED)
        with late.nothing_is_done():
            with late.answers_late():
                agent.asked(**CACHED)
            agent.asked(**CACHED)
        assert numbers(spans, 3) == [1, 2, 3]


def test_a_turn_of_a_named_session_is_waited_for(agent, late):
    named = {"extra_headers": {"x-session-id": "X"}}
    with capture_spans(store=late.store) as spans:
        agent.asked(**named)
        with late.nothing_is_done():
            with late.answers_late():
                agent.asked(**named)
            agent.asked(**named)
        assert numbers(spans, 3) == [1, 2, 3]


@pytest.mark.parametrize("traces", ["session", "turn"])
def test_a_turn_is_waited_for_whose_session_is_named_by_the_next_and_told_by_the_store_alone(agent, late, traces):
    named = {"extra_headers": {"x-session-id": "X"}}
    with capture_spans(store=GuardedStore(late.backend), traces=traces):  # another process
        agent.answered_by(made := agent.made(tool=True))
        agent.asked(**named)
        agent.go_on_from(made)
    with capture_spans(store=late.store, traces=traces) as spans:
        with late.nothing_is_done():
            with late.answers_late():
                agent.turn(tool=True)
            agent.history = [user()]
            agent.asked(**named)
        assert numbers(spans, 2) == [2, 3]


@pytest.fixture
def talk(api: Any, server: Any) -> Agent:
    """Somebody whose history alone ties one turn to the next."""
    agent = Agent(api, server, "chat")
    agent.history = [user()]
    return agent


@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_whose_history_alone_ties_it_is_waited_for(talk, late, traces, stream):
    with capture_spans(store=late.store, traces=traces, history=True) as spans:
        talk.turn(stream=stream)
        with late.nothing_is_done():
            with late.answers_late():
                talk.turn(stream=stream)
            talk.turn(stream=stream)
        assert numbers(spans, 3) == [1, 2, 3]


@pytest.mark.parametrize("traces", ["session", "turn"])
def test_turns_are_tied_by_their_history_before_the_store_has_told_its_scope(talk, late, traces):
    with capture_spans(store=late.store, traces=traces, history=True) as spans:
        with late.answers_late():
            for _ in range(3):
                talk.turn()
        assert numbers(spans, 3) == [1, 2, 3]


def test_a_history_that_is_just_being_claimed_is_waited_for(talk, late):
    with capture_spans(store=late.store, history=True) as spans:
        talk.api.chat("It tells its scope.")
        until(lambda: late.backend.links)
        with late.nothing_is_done():
            with late.answers_late():
                talk.turn()
            talk.turn()
        assert numbers(spans, 2, after=1) == [1, 2]


def test_a_stream_that_is_left_open_is_waited_for(agent, late):
    with capture_spans(store=late.store) as spans:
        agent.turn(tool=True)
        with late.nothing_is_done():
            with late.answers_late():
                stream = agent.read_as_far_as_its_tool_call()
            agent.turn()
        agent.api.finish(stream.close())
        assert numbers(spans, 3) == [1, 2, 3]


class Slow(GuardedStore):
    """A store to which what is recorded beside the application of a second turn comes when a test says so."""

    def __init__(self, backend: HeldBackend) -> None:
        super().__init__(backend)
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        if link.turn == 2:
            self.begun.release()
            self.go_on.acquire(timeout=AT_MOST)
        super().put_soon(keys, link)


class AmidItsEnd(SpanProcessor):
    """Has something done on the thread that ends the second turn, when that has left all that it leaves."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def on_end(self, span: Any) -> None:
        if span.name == "turn" and span.attributes["llm_session.turn"] == 2:
            self.do()


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_what_is_just_being_recorded_beside_the_application_is_found_by_the_next_turn(client, server, kind):
    agent = Agent(SimpleNamespace(client=client, finish=lambda reply: reply), server, kind)
    store = Slow(backend := HeldBackend())
    provider = TracerProvider(shutdown_on_exit=False)

    def recorded_beside() -> None:
        store.go_on.release()  # what it left while it went on
        assert store.begun.acquire(timeout=AT_MOST), "what it leaves now"

    with capture_spans(store=store, tracer_provider=provider) as spans, ThreadPoolExecutor(1) as pool:
        agent.turn(tool=True)
        provider.add_span_processor(AmidItsEnd(recorded_beside))
        with backend.held(store):
            second = pool.submit(agent.turn, tool=True, delay=60.0)
            until(lambda: len(server.requests) == 2)
        assert store.begun.acquire(timeout=AT_MOST)
        server.release()
        second.result()
        agent.turn()
        store.go_on.release(10)
        assert numbers(spans, 3) == [1, 2, 3]
