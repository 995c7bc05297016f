"""The applications whose exports are recorded (``record_exports.py``), each with its own books."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any
from unittest.mock import patch

import openai
from export_others import others
from loopback_client import options_for
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from providers_kit import WrappedProvider, loggers_to, provider_to

from otel_llm_sessions import evaluate, session
from otel_llm_sessions.demo.provider.server import ProviderServer
from otel_llm_sessions.testing import capture_spans

Books = list[dict[str, Any]]
MODEL = "gpt-4o-mini"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Stage:
    """What a scene is played on: a server, processes, and what they export."""

    def __init__(self, name: str, server: Any) -> None:
        self.name = name
        self.server = server
        self.ended = InMemorySpanExporter()
        self.emitted = InMemoryLogRecordExporter()

    @property
    def spans(self) -> Any:
        return self.ended.get_finished_spans()

    @property
    def logs(self) -> Any:
        return self.emitted.get_finished_logs()

    def provider(self) -> TracerProvider:
        """A tracer provider, as each process has one."""
        provider = provider_to(self.ended, resource=Resource({"service.name": self.name}))
        return provider

    @contextmanager
    def process(self, content: str = "", wrap: Any = lambda provider: provider, **settings: Any) -> Iterator[Process]:
        """A process of its own that is instrumented: what it remembers goes with it."""
        provider = wrap(self.provider())
        logs = loggers_to(self.emitted, resource=Resource({"service.name": self.name}))
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, {CAPTURE: content} if content else {}))
            settings = {"tracer_provider": provider, "logger_provider": logs, **settings}
            stack.enter_context(capture_spans(**settings))
            client = stack.enter_context(openai.OpenAI(**options_for(self.server)))
            yield Process(client, provider.get_tracer("web"))


class Process:
    """The calls that a process makes."""

    def __init__(self, client: openai.OpenAI, tracer: Any) -> None:
        self.client = client
        self._tracer = tracer

    def request(self, name: str = "POST /chat") -> Any:
        """A request that the process serves."""
        return self._tracer.start_as_current_span(name)

    def respond(self, text: str = "Hello there", **arguments: Any) -> Any:
        return self.client.responses.create(model=MODEL, input=text, **arguments)

    def chat(self, text: str = "Hello there", **arguments: Any) -> Any:
        arguments = {"messages": [{"role": "user", "content": text}], **arguments}
        return self.client.chat.completions.create(model=MODEL, **arguments)

    def chain(self, turns: int, previous: Any = None) -> list[Any]:
        replies: list[Any] = []
        for _ in range(turns):
            before = replies[-1] if replies else previous
            replies.append(self.respond(**({"previous_response_id": before.id} if before else {})))
        return replies


def book(id_: str, turns: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """What the application knows of a session; the sums are of its turns."""
    read = [turn["input_tokens"] for turn in turns if turn.get("input_tokens") is not None]
    written = [turn["output_tokens"] for turn in turns if turn.get("output_tokens") is not None]
    sums = {"input_tokens": sum(read) if read else None, "output_tokens": sum(written) if written else None}
    return {"id": id_, "turns": turns, **sums, **facts}


def turn(number: int | None, reply: Any, **more: Any) -> dict[str, Any]:
    """What the application knows of a turn."""
    usage = reply.usage
    read = usage.prompt_tokens if hasattr(usage, "prompt_tokens") else usage.input_tokens
    written = usage.completion_tokens if hasattr(usage, "completion_tokens") else usage.output_tokens
    known = {"response_id": reply.id, "model": reply.model, "input_tokens": read, "output_tokens": written}
    return {**({"turn": number} if number is not None else {}), **known, "error": None, **more}


def turns(replies: list[Any], first: int = 1, **more: Any) -> list[dict[str, Any]]:
    return [turn(number, reply, **more) for number, reply in enumerate(replies, first)]


def explicit(stage: Stage) -> Books:
    """LiteLLM's first form: two chat calls that name their session."""
    with stage.process() as process:
        said = {"extra_body": {"metadata": {"litellm_session_id": "explicit-1"}}}
        replies = [process.chat(**said), process.chat("And now?", **said)]
    told = turns(replies, source="metadata", part=1)
    return [book("explicit-1", told, parts=[1], markers=[False, False], services=["explicit"])]


def chain(stage: Stage) -> Books:
    """LiteLLM's second form: responses that go on from one another."""
    with stage.process() as process:
        one, two, three = process.chain(3)
    told = [turn(1, one, source="new"), turn(2, two, source="chain"), turn(3, three, source="chain")]
    return [book(one.id, told, follows=[None, one.id, two.id], parts=[1])]


def stream(stage: Stage) -> Books:
    """A chain whose first turn is streamed, and whose last one is left before its end."""
    with stage.process() as process:
        *_, done = process.respond(stream=True)
        second = process.respond(previous_response_id=done.response.id)
        with process.respond("Talk!", previous_response_id=second.id, stream=True) as left:
            begun = next(iter(left)).response
    told = [turn(1, done.response), turn(2, second), {"turn": 3, "response_id": begun.id, "error": None}]
    return [book(done.response.id, told)]


def failed(stage: Stage) -> Books:
    """A chain whose second turn fails, and is tried again."""
    with stage.process() as process:
        first = process.respond()
        try:
            process.respond(previous_response_id=first.id, extra_headers={"x-loopback-mode": "status=429"})
        except openai.RateLimitError:
            again = process.respond(previous_response_id=first.id)
    refused = {"turn": 2, "response_id": None, "model": MODEL, "error": "openai.RateLimitError"}
    return [book(first.id, [turn(1, first), refused, turn(2, again)], follows=[None, first.id, first.id])]


def nested(stage: Stage) -> Books:
    """A chain and a named session, each turn while a request is served."""
    with stage.process() as process:
        replies: list[Any] = []
        for _ in range(3):
            with process.request():
                replies += process.chain(1, *replies[-1:])
        named = []
        for name in ("GET /a", "GET /b"):
            with process.request(name), session("nested-1"):
                named.append(process.chat())
    where = {"requests": ["POST /chat"] * 3, "markers": [True] * 3, "parts": [1]}
    return [
        book(replies[0].id, turns(replies), **where),
        book("nested-1", turns(named, source="context"), requests=["GET /a", "GET /b"], markers=[True] * 2),
    ]


def mixed_places(stage: Stage) -> Books:
    """A chain whose turns stand now in a request, now alone."""
    replies: list[Any] = []
    with stage.process() as process:
        for name in (None, "GET /a", None, "GET /b"):
            with process.request(name) if name else ExitStack():
                replies += process.chain(1, *replies[-1:])
    where = {"requests": [None, "GET /a", None, "GET /b"], "markers": [False, True, False, True]}
    return [book(replies[0].id, turns(replies), **where)]


def parts(stage: Stage) -> Books:
    """A long session: three turns of it are one trace."""
    with stage.process(max_turns=3) as process, session("parts-1"):
        replies = [process.chat() for _ in range(8)]
    told = [turn(number, reply, part=(number + 2) // 3) for number, reply in enumerate(replies, 1)]
    return [book("parts-1", told, parts=[1, 2, 3])]


def parts_nested(stage: Stage) -> Books:
    """A long chain, each turn while a request is served."""
    replies: list[Any] = []
    with stage.process(max_turns=3) as process:
        for _ in range(7):
            with process.request():
                replies += process.chain(1, *replies[-1:])
    told = [turn(number, reply, part=(number + 2) // 3) for number, reply in enumerate(replies, 1)]
    return [book(replies[0].id, told, parts=[1, 2, 3], markers=[True] * 7)]


def fork(stage: Stage) -> Books:
    """Two turns go on from the first, and one from each of them; the second branch begins last."""
    with stage.process() as process:
        (first,) = process.chain(1)
        left = process.chain(2, first)
        right = process.chain(2, first)
    told = [turn(1, first), turn(2, left[0]), turn(2, right[0]), turn(3, left[1]), turn(3, right[1])]
    return [book(first.id, told, follows=[None, first.id, first.id, left[0].id, right[0].id])]


def parallel(stage: Stage) -> Books:
    """Four calls of a session at once, then one more."""
    with stage.process() as process, session("parallel-1"):
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(copy_context().run, process.chat, f"Question {at}") for at in range(4)]
            ids = [job.result().id for job in jobs]
        ids.append(process.chat("And?").id)
    return [{"id": "parallel-1", "turns": [{"error": None}] * 5, "parts": [1], "response_ids": sorted(ids)}]


def weak_start(stage: Stage) -> Books:
    """A chat that only its tool calls tie together: its first turn is an ordinary span until the second comes."""
    with stage.process() as process:
        asked = [{"role": "user", "content": "What is the weather in Paris?"}]
        first = process.chat(messages=asked, tools=[WEATHER], tool_choice="required")
        said = first.choices[0].message.model_dump(exclude_none=True)
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "21"} for call in said["tool_calls"]]
        second = process.chat(messages=[*asked, said, *results])
    told = [turn(1, first, source="new"), turn(2, second, source="tool_call")]
    return [book(first.id, told, markers=[True, False], parts=[1])]


def one_shots(stage: Stage) -> Books:
    """Calls that nothing goes on from: responses, to a request and not stored, a chat with a tool call, plain chats."""
    with stage.process() as process:
        with process.request():
            served = process.respond()
        response = process.respond(store=False)
        called = process.chat("Weather in Paris?", tools=[WEATHER], tool_choice="required")
        process.chat()
        process.chat()
    told = ((served, "POST /chat"), (response, None), (called, None))
    return [book(one.id, [turn(1, one)], parts=[], requests=[where], markers=[False]) for one, where in told]


def partial_chain(stage: Stage) -> Books:
    """A chain that two more processes go on with, of which none knows what the one before knew."""
    with stage.process() as process:
        begun = process.chain(2)
    with stage.process() as process:
        middle = process.chain(2, begun[-1])
    with stage.process() as process, process.request():
        end = process.chain(1, middle[-1])
    replies = [*begun, *middle, *end]
    told = [turn(None, reply) for reply in replies]
    follows = [None, *(reply.id for reply in replies[:-1])]
    return [book(begun[0].id, told, aliases=sorted([begun[-1].id, middle[-1].id]), follows=follows)]


def partial_alone(stage: Stage) -> Books:
    """A chain whose first turn nobody instrumented."""
    with openai.OpenAI(**options_for(stage.server)) as client:
        before = client.responses.create(model=MODEL, input="Hello")
    with stage.process() as process:
        replies = process.chain(2, before)
    told = turns(replies, first=2)
    return [book(before.id, [{**told[0], "source": "chain_partial"}, told[1]], aliases=[])]


def no_shared_store(stage: Stage) -> Books:
    """A named session, served by two processes that know nothing of each other, one after the other."""
    replies = []
    for _ in range(2):
        with stage.process() as process, session("no-shared-store-1"):
            replies += [process.chat(), process.chat()]
    told = [turn(number, reply) for number, reply in zip((1, 2, 1, 2), replies, strict=True)]
    return [book("no-shared-store-1", told, parts=[1])]


def turn_mode(stage: Stage) -> Books:
    """``TRACES=turn``: a named session and a chain, each turn a trace of its own."""
    with stage.process(traces="turn") as process:
        with session("turn-mode-1", name="refund"):
            named = [process.chat(), process.chat()]
        replies = process.chain(3)
    return [
        book("turn-mode-1", turns(named), parts=[], name="refund"),
        book(replies[0].id, turns(replies), parts=[], follows=[None, replies[0].id, replies[1].id]),
    ]


def turn_mode_nested(stage: Stage) -> Books:
    """``TRACES=turn``, each turn while a request is served."""
    replies: list[Any] = []
    with stage.process(traces="turn") as process:
        for _ in range(2):
            with process.request():
                replies += process.chain(1, *replies[-1:])
    return [book(replies[0].id, turns(replies), parts=[], requests=["POST /chat"] * 2, markers=[False] * 2)]


def talk(process: Process) -> tuple[list[Any], list[Any]]:
    """A chat of two turns with its history; the replies, and what is new in each turn."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    first = process.chat(messages=messages)
    said = first.choices[0].message.content
    then = [{"role": "assistant", "content": said}, {"role": "user", "content": "And «3 + 3»?"}]
    second = process.chat(messages=[*messages, *then])
    answer = [[["assistant", one.choices[0].message.content]] for one in (first, second)]
    asked = [[[one["role"], one["content"]] for one in each] for each in (messages, then[1:])]
    return [first, second], [list(each) for each in zip(asked, answer, strict=True)]


def content(stage: Stage) -> Books:
    """What is said stands on the spans, each message once."""
    with stage.process(content="SPAN_ONLY") as process, session("content-1"):
        replies, words = talk(process)
    return [book("content-1", turns(replies), words=words)]


def event_only(stage: Stage) -> Books:
    """What is said stands in events."""
    with stage.process(content="EVENT_ONLY") as process, process.request(), session("event-only-1"):
        replies, words = talk(process)
    return [book("event-only-1", turns(replies), words=words)]


def cost(stage: Stage) -> Books:
    """A server that says what each reply costs."""
    with ProviderServer(charges=True) as server:
        charging = Stage(stage.name, server)
        charging.ended, charging.emitted = stage.ended, stage.emitted
        with charging.process() as process, session("cost-1"):
            alone = process.chat()
            with process.request():
                inside = process.chat("What does it cost?")
    prices = [reply.usage.model_extra["cost"] for reply in (alone, inside)]
    told = [turn(1, alone, cost=prices[0]), turn(2, inside, cost=prices[1])]
    return [book("cost-1", told, cost=round(sum(prices), 9))]


def who_and_what(stage: Stage) -> Books:
    """A session with a user, a name and tags."""
    with stage.process() as process, session("who-1", user="u-1", name="refund", tags=("beta", "déjà")):
        replies = [process.chat()]
        with process.request():
            replies.append(process.chat())
    return [book("who-1", turns(replies), user="u-1", name="refund", tags=["beta", "déjà"])]


def evaluation(stage: Stage) -> Books:
    """Judgements of a response and of a session; the judged turns stand in requests and alone."""
    with stage.process() as process:
        with process.request():
            first = process.respond()
        second = process.respond(previous_response_id=first.id)
        evaluate("thumbs", response_id=first.id, score=1, label="up")
        evaluate("relevance", response_id=second.id, score=0.25, explanation="Off the point.")
        evaluate("solved", session_id=first.id, label="yes")
    judged = [["thumbs", 1.0, "up", first.id], ["relevance", 0.25, None, second.id], ["solved", None, "yes", None]]
    return [book(first.id, turns([first, second]), evaluations=judged)]


def parent_session(stage: Stage) -> Books:
    """A session that is opened inside another."""
    with stage.process() as process, session("parent-1"):
        outer = [process.chat()]
        with session("child-1"):
            inner = [process.chat(), process.chat()]
        outer.append(process.chat())
    return [
        book("parent-1", turns(outer), children=["child-1"], parents=[]),
        book("child-1", turns(inner), parents=["parent-1"], children=[]),
    ]


def compaction(stage: Stage) -> Books:
    """A chain that is compacted, and goes on from what took its place."""
    with stage.process() as process:
        first = process.respond()
        compacted = process.client.responses.compact(model=MODEL, previous_response_id=first.id)
        items = [item.to_dict(warnings=False) for item in compacted.output]
        third = process.respond([*items, {"role": "user", "content": "And now?"}])
    middle = {"turn": 2, "source": "chain"}
    return [{"id": first.id, "turns": [turn(1, first), middle, turn(3, third, source="item")]}]


def background(stage: Stage) -> Books:
    """A response that is made in the background, fetched, and gone on from; and one that is cancelled."""
    with stage.process() as process:
        made = process.respond(background=True)
        fetched = process.client.responses.retrieve(made.id)
        second = process.respond(previous_response_id=made.id)
        third = process.respond(previous_response_id=second.id, background=True)
        process.client.responses.cancel(third.id)
    told = [{"turn": 1, "response_id": fetched.id}, turn(2, second), {"turn": 3, "response_id": third.id}]
    return [{"id": made.id, "turns": told}]


def conversation(stage: Stage) -> Books:
    """The provider's conversation names the session."""
    with stage.process() as process:
        talk_id = process.client.conversations.create(items=[]).id
        replies = [process.respond(conversation=talk_id), process.respond(conversation={"id": talk_id})]
    return [book(talk_id, turns(replies, source="conversation"))]


def agent(stage: Stage) -> Books:
    """What an agent does inside a session: spans of its own, with calls below them."""
    with stage.process() as process, session("agent-1"):
        first = process.chat()
        with process.request("invoke_agent helper"):
            with process.request("look up"):
                pass
            second = process.chat()
    return [book("agent-1", turns([first, second]), parts=[1])]


def other_session(stage: Stage) -> Books:
    """A chain that goes on under a name, which wins; and one of an odd name."""
    with stage.process() as process:
        first = process.respond()
        named = process.respond(previous_response_id=first.id, metadata={"session_id": "umläut ✓ 漢字/%2F"})
    told = [turn(1, named, source="metadata")]
    return [book(first.id, [turn(1, first)]), book("umläut ✓ 漢字/%2F", [{**told[0], "turn": 2}])]


def random_ids(stage: Stage) -> Books:
    """Sessions whose traces have random ids: a chain, and a named session of which a turn is served."""
    with stage.process(wrap=WrappedProvider) as process:
        replies = process.chain(2)
        with session("random-ids-1"):
            named = [process.chat()]
        with process.request(), session("random-ids-1"):
            named.append(process.chat())
    return [
        book(replies[0].id, turns(replies), parts=[1]),
        book("random-ids-1", turns(named), parts=[1], requests=[None, "POST /chat"]),
    ]


SCENES: dict[str, Callable[[Stage], Books]] = {
    scene.__name__: scene
    for scene in (
        explicit, chain, stream, failed, nested, mixed_places, parts, parts_nested, fork, parallel,
        weak_start, one_shots, partial_chain, partial_alone, no_shared_store, turn_mode, turn_mode_nested, content,
        event_only, cost, who_and_what, evaluation, parent_session, compaction, background, conversation, agent,
        other_session, random_ids, others,
    )
}  # fmt: skip
