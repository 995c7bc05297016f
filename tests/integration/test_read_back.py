"""Conversations of all kinds, read back from what was exported of them alone: every message once, in order."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import openai
import pytest
from answered import client_of, httpx
from delta_kit import CONTENT, KINDS, Recorded, Talker, Turn, context_of, is_context
from echo_kit import chunks, completion, events, in_pieces, response
from held_backend import LateBackend
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from waiting import until

from otel_llm_sessions import session
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import CapturedSpans, capture_spans

NAMED = ("header", "block", "nobody")
"""Who says which session a conversation is: a header, a block, or only the ids in it."""

TURNS = 12


class World:
    """An application, its server, and whether contents are recorded just now."""

    def __init__(self, seed: int, client: openai.OpenAI, all_recorded: bool) -> None:
        self.random = random.Random(seed)
        self.talker = Talker(self.random.choice(KINDS), self.random)
        self.named = self.random.choice(NAMED)
        self.turns: dict[str, Turn] = {}
        self.client = client
        self.all_recorded = all_recorded
        self.ending: Turn | None = None
        """The turn that is just ending."""

    def hold(self) -> dict[str, Turn]:
        """Hold the conversation; return its turns by their ids."""
        block = session("held") if self.named == "block" else contextlib.nullcontext()
        with block:
            for _ in range(self.random.randrange(2, TURNS)):
                if self.turns and self.talker.kind in ("chat", "items") and self.random.random() < 0.1:
                    self._two_at_once()
                else:
                    self._finish(*self._begin())
        return self.turns

    def _two_at_once(self) -> None:
        one, other = self._begin("stream"), self._begin()
        if not one[0].fails:
            other[0].amid.append(one[0].id)
        for begun in (other, one) if self.random.random() < 0.5 else (one, other):
            self._finish(*begun)

    def _begin(self, way: str | None = None) -> tuple[Turn, Any]:
        turn = self.talker.play()
        if self.all_recorded:
            turn.is_recorded, turn.is_unsampled = True, False
        self.turns[turn.id] = self.ending = turn
        arguments = {**turn.body, "model": turn.id}
        if self.named == "header":
            arguments["extra_headers"] = {"x-session-id": "held"}
        resource = self.client.chat.completions if turn.kind == "chat" else self.client.responses
        way = way or self.random.choice(("plain", "stream", "raw"))
        try:
            if way == "raw":
                return turn, resource.with_raw_response.create(**arguments).parse()
            return turn, resource.create(**arguments, stream=way == "stream")
        except openai.InternalServerError:
            assert turn.fails
            return turn, None

    def _finish(self, turn: Turn, reply: Any) -> None:
        self.ending = turn
        if isinstance(reply, openai.Stream):
            if turn.kind == "chat":
                del turn.reply[1:]  # a stream brings one choice
            is_cut = self.talker.kind != "chain" and self.random.random() < 0.15
            if not is_cut:
                [*reply]
            elif turn.kind == "chat":
                self._cut_chat(turn, reply)
            else:
                self._cut_items(turn, reply)
        if not turn.fails:
            self.talker.keep(turn)

    def _cut_chat(self, turn: Turn, stream: Any) -> None:
        """Stop reading when half of a text is there, which is all that the application knows of the reply."""
        text = ""
        for chunk in stream:
            if text := chunk.choices[0].delta.content or "":
                break
        stream.close()
        if text:
            turn.reply = [{"role": "assistant", "content": text}]

    def _cut_items(self, turn: Turn, stream: Any) -> None:
        """Stop reading when one item is there."""
        for event in stream:
            if event.type == "response.output_item.done":
                break
        stream.close()
        del turn.reply[1:]

    def answer(self, request: Any) -> Any:
        asked = json.loads(request.content)
        turn = self.turns[asked["model"]]
        if turn.fails:
            return httpx.Response(500, json={"error": {"message": "no", "code": None}})
        made = completions(turn) if turn.kind == "chat" else response(*turn.reply, id=turn.id)
        if not asked.get("stream"):
            return httpx.Response(200, json=made)
        brought = chunks(made, deltas_of(turn.reply)) if turn.kind == "chat" else events(made)
        return httpx.Response(200, content=iter(brought), headers={"content-type": "text/event-stream"})


def completions(turn: Turn) -> dict[str, Any]:
    made = completion(turn.reply[0])
    others = [{**made["choices"][0], "index": 1, "message": message} for message in turn.reply[1:]]
    return {**made, "id": turn.id, "choices": [*made["choices"], *others]}


def deltas_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The deltas that bring one message; of several choices a stream brings the first alone."""
    message = messages[0]
    if message.get("tool_calls"):
        return in_pieces(message["tool_calls"])
    half = message["content"].find("w ") + 1
    return [{"content": message["content"][:half]}, {"content": message["content"][half:]}]


class Stage:
    """Where conversations are held, one after the other: a client, and who decides what is recorded."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.client = client_of(lambda request: self.on_stage.answer(request))

    @property
    def on_stage(self) -> World:
        assert self.world is not None
        return self.world

    @contextlib.contextmanager
    def holds(self, seed: int, *, all_recorded: bool = False, **settings: Any) -> Iterator[tuple[World, CapturedSpans]]:
        """Have a conversation held, with all that is exported of it."""
        self.world = World(seed, self.client, all_recorded)
        provider = TracerProvider(sampler=SampledAsTold(self.world), shutdown_on_exit=False)
        with capture_spans(tracer_provider=provider, content_hook=self.hook, **settings) as spans:
            yield self.world, spans

    def hook(self, content: dict[str, Any]) -> dict[str, Any] | None:
        """Keep back what is not to be recorded and is sampled all the same."""
        turn = self.on_stage.ending
        return content if turn is None or turn.is_recorded else None


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.client.close()


class SampledAsTold(Sampler):
    """Drops every other call that is not to be recorded, and nothing else."""

    def __init__(self, world: World) -> None:
        self._world = world

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, *args: Any
    ) -> SamplingResult:
        turn = self._world.turns.get((attributes or {}).get("gen_ai.request.model"))
        if turn is not None and turn.is_unsampled:
            return SamplingResult(Decision.DROP)
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, *args)

    def get_description(self) -> str:
        return "as told"


def read(spans: CapturedSpans) -> dict[str, Recorded]:
    """What a reader sees: turns by the model that they name, which each has of its own."""
    calls = {span.context.span_id: span for span in spans if "gen_ai.request.model" in span.attributes}
    names = {id_: span.attributes["gen_ai.request.model"] for id_, span in calls.items()}
    found = {}
    for id_, span in calls.items():
        kind = span.attributes.get("llm_session.content")
        before = [
            names.get(link.context.span_id)
            for link in span.links
            if link.attributes.get("llm_session.link") == "previous_turn"
        ]
        if kind is not None:
            said = (span.attributes.get(f"gen_ai.{name}.messages", "[]") for name in ("input", "output"))
            found[names[id_]] = Recorded(kind, before[0] if before else None, *map(json.loads, said))
    return found


@pytest.fixture(autouse=True)
def _content_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")


def held(stage: Stage, seeds: Iterable[int], traces: str) -> Counter[str]:
    """Have conversations held and read back; return how many of their turns were recorded how."""
    kinds = Counter[str]()
    for seed in seeds:
        with stage.holds(seed, traces=traces) as (world, spans):
            turns = world.hold()
        recorded = read(spans)
        assert recorded.keys() == {id_ for id_, turn in turns.items() if turn.is_recorded}, f"seed {seed}"
        for id_, found in recorded.items():
            before = turns[found.before] if found.before is not None else None
            assert found.kind == ("delta" if goes_on(turns[id_], before) else "full"), f"seed {seed}"
            assert is_context(context_of(id_, recorded), turns[id_]), f"seed {seed}"
            kinds[found.kind] += 1
    return kinds


@pytest.mark.usefixtures("nothing_reported")
def test_every_message_is_read_back_once_and_in_order(stage):
    kinds = held(stage, range(15), "session")
    assert kinds["delta"] > kinds["full"] > 15


@pytest.mark.slow
@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.usefixtures("nothing_reported")
def test_every_message_of_many_conversations_is_read_back_once_and_in_order(stage, traces):
    kinds = held(stage, range(15, 515), traces)
    assert kinds["delta"] > kinds["full"] > 500


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_reported")
def test_where_answers_are_late_no_message_is_left_out(stage):
    kinds = Counter[str]()
    for seed in range(40):
        with stage.holds(seed, all_recorded=True, store=GuardedStore(LateBackend(seed))) as (world, spans):
            turns = world.hold()
            until(lambda turns=turns, spans=spans: len(read(spans)) == len(turns))
        recorded = read(spans)
        for id_, turn in turns.items():
            assert is_context(context_of(id_, recorded), turn), f"seed {seed}"
            kinds[recorded[id_].kind] += 1
    assert kinds["delta"] > 20


def goes_on(turn: Turn, before: Turn | None) -> bool:
    """Whether a turn goes on from the one that it links to."""
    if before is None or not before.is_recorded or before.id in turn.amid:
        return False
    if turn.kind == "chain":
        return turn.body.get("previous_response_id") == before.id
    if turn.kind == "conversation":
        return True
    return turn.context[: len(before.after)] == before.after


TOOLS = [{"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False} for name in ("a", "b")]


@pytest.mark.usefixtures("nothing_reported")
def test_instructions_and_tools_are_recorded_where_they_differ_from_the_linked_turns(server, client):
    asked = [("Be brief.", TOOLS), ("Be brief.", TOOLS), ("Be long.", TOOLS[:1]), (None, []), (None, []), (None, TOOLS)]
    before: dict[str, Any] = {}
    with capture_spans() as spans:
        for instructions, tools in asked:
            said = {"instructions": instructions, "tools": tools}
            reply = client.responses.create(model="m", input="Hello", **said, **before)
            before = {"previous_response_id": reply.id}
    found = [span.attributes for span in spans if span.name.startswith("chat ")]
    assert [texts(each.get("gen_ai.system_instructions")) for each in found] == [
        ["Be brief."], None, ["Be long."], [], None, None
    ]  # fmt: skip
    assert [names(each.get("gen_ai.tool.definitions")) for each in found] == [
        ["a", "b"], None, ["a"], [], None, ["a", "b"]
    ]  # fmt: skip
    assert [each["llm_session.content"] for each in found] == ["full"] + ["delta"] * 5


def texts(said: str | None) -> list[str] | None:
    return None if said is None else [part["content"] for part in json.loads(said)]


def names(said: str | None) -> list[str] | None:
    return None if said is None else [tool["name"] for tool in json.loads(said)]
