"""What is new in a turn against the one that it links to: with it, a reader puts the conversation together."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from delta_kit import KINDS, Recorded, Talker, Turn, context_of, is_context
from effort_kit import Effort, Efforts
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import BaseModel
from openai.types.chat import ChatCompletionMessage

from otel_llm_sessions.openai.delta import Deltas
from otel_llm_sessions.openai.talk import FIELD, talk_of
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.sessions.link import Told

KEYED = DigestSource("key", str)


class Recorder:
    """Records turns as a process does, which may have begun just now."""

    def __init__(self) -> None:
        self.deltas = Deltas(KEYED)
        self.told: dict[str, Told | None] = {}
        self.turns: dict[str, Recorded] = {}

    def record(self, turn: Turn, before: Turn | None) -> Recorded | None:
        conversation = turn.body.get("conversation")
        said = self.deltas.said(turn.api, turn.body, conversation)
        told = self.told[before.id] if before is not None else None
        is_chained = before is not None and turn.body.get("previous_response_id") == before.id
        news = self.deltas.news(said, told, is_chained)
        if not turn.is_recorded:
            self.told[turn.id] = None
            return None
        sent = turn.body[FIELD[turn.api]]
        new = sent[news.first :] if news.first else sent
        output = [] if turn.fails else turn.reply
        self.told[turn.id] = self.deltas.told(turn.api, said, output)
        recorded = self.turns[turn.id] = Recorded(news.kind, before.id if before is not None else None, new, output)
        return recorded


def linked(turn: Turn, turns: list[Turn]) -> Turn | None:
    """The turn that a turn links to: that which it names, else the newest."""
    if "previous_response_id" in turn.body or turn.kind in ("chat", "items"):
        return turn.before
    return turns[-1] if turns else None


def goes_on(turn: Turn, before: Turn | None) -> bool:
    if before is None or not before.is_recorded:
        return False
    if turn.kind == "chain":
        return "previous_response_id" in turn.body
    return turn.context[: len(before.after)] == before.after


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_a_conversation_is_read_back_whole_and_nothing_is_recorded_twice(kind, seed):
    chance, recorder, turns = random.Random(seed), Recorder(), list[Turn]()
    talker = Talker(kind, chance)
    for _ in range(chance.randrange(2, 12)):
        turn = talker.play()
        talker.keep(turn)
        before = linked(turn, turns)
        if chance.random() < 0.2:
            recorder.deltas = Deltas(KEYED)  # another process
        recorded = recorder.record(turn, before)
        turns.append(turn)
        if recorded is not None:
            assert recorded.kind == ("delta" if goes_on(turn, before) else "full")
            assert is_context(context_of(turn.id, recorder.turns), turn)


def told_of(deltas: Deltas, messages: list[Any], reply: Any = None, **body: Any) -> Told:
    said = deltas.said("chat_completions", {"messages": messages, **body})
    return deltas.told("chat_completions", said, [reply] if reply else [])


ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
REPLY = {"role": "assistant", "content": "Hi"}
MORE = {"role": "user", "content": "Go on"}


def news(before: Told | None, messages: list[Any], deltas: Deltas | None = None, **body: Any) -> Any:
    deltas = deltas or Deltas(KEYED)
    return deltas.news(deltas.said("chat_completions", {"messages": messages, **body}), before)


def test_what_differs_of_tools_is_recorded_and_what_does_not_is_not():
    left = told_of(Deltas(KEYED), ASKED, REPLY, tools=[{"name": "add"}])
    same, other, none = (
        news(left, [*ASKED, REPLY, MORE], tools=tools) for tools in ([{"name": "add"}], [{"name": "sub"}], [])
    )
    assert (same.tools, other.tools, none.tools) == (False, True, True)


def test_tools_that_are_no_json_are_always_recorded():
    deltas, odd = Deltas(KEYED), [object()]
    left = told_of(deltas, ASKED, REPLY, tools=odd)
    assert news(left, [*ASKED, REPLY, MORE], tools=odd).tools


def test_another_key_tells_nothing():
    left = told_of(Deltas(KEYED), ASKED, REPLY)
    assert news(left, [*ASKED, REPLY, MORE], Deltas(DigestSource("other", str))).kind == "full"
    assert news(left, [*ASKED, REPLY, MORE]).kind == "delta"


def test_a_text_that_was_changed_in_place_is_noticed():
    deltas, history = Deltas(KEYED), [dict(message) for message in ASKED]
    left = told_of(deltas, history, REPLY)
    history += [REPLY, MORE]
    assert news(left, history, deltas).kind == "delta"
    history[0]["content"] = "Be Brief."
    assert news(left, history, deltas).kind == "full"


@pytest.mark.parametrize(("said", "other"), [(-1, -2), (1, True), (False, 0), (0, 2**61 - 1), (1, "1"), ([1], [True])])
def test_a_value_that_was_changed_in_place_is_noticed_also_where_pythons_hashes_are_the_same(said, other):
    def asked(code: Any) -> list[Any]:
        ended = {"stdout": "", "outcome": {"type": "exit", "exit_code": code}}
        return [{"type": "shell_call_output", "call_id": "call_1", "output": [ended]}]

    deltas = Deltas(KEYED)
    left = deltas.told("responses", deltas.said("responses", {"input": asked(said)}), [REPLY])
    for code, kind in ((said, "delta"), (other, "full")):
        again = deltas.said("responses", {"input": [*asked(code), REPLY, MORE]})
        assert deltas.news(again, left).kind == kind


@pytest.mark.parametrize("tools", [[{"name": "add"}], ({"name": "add"},), [{"name": True}], [{"name": float("nan")}]])
def test_tools_are_told_apart_by_what_they_say_however_they_lie_in_memory(tools):
    def again(**more: Any) -> Any:
        return news(left, [*ASKED, REPLY, MORE], deltas, tools=[{**tools[0], **more}]).tools

    deltas = Deltas(KEYED)
    left = told_of(deltas, ASKED, REPLY, tools=tools)
    assert (again(), again(name="sub"), again(name=1)) == (False, True, True)


def test_tools_are_digested_with_what_the_store_shares_now():
    scopes = iter(["", "shared"])
    deltas = Deltas(DigestSource(None, lambda: next(scopes)))
    one, other = (deltas.said("chat_completions", {"messages": [], "tools": [{"name": "add"}]}) for _ in (1, 2))
    assert one.tools != other.tools


def test_of_several_choices_nobody_knows_which_goes_on():
    deltas = Deltas(KEYED)
    said = deltas.said("chat_completions", {"messages": ASKED})
    left = deltas.told("chat_completions", said, [REPLY, {"role": "assistant", "content": "Ho"}])
    assert news(left, [*ASKED, REPLY, MORE]).kind == "full"


def test_a_request_that_is_sent_again_brings_nothing_new():
    left = told_of(Deltas(KEYED), ASKED)
    assert news(left, ASKED) == ("delta", len(ASKED), False, False)


@pytest.mark.parametrize("messages", [None, 1, {}, "Hello", [None], [{"role": 1}], [{"content": [object()]}]])
@pytest.mark.parametrize("api", ["chat_completions", "responses"])
def test_odd_messages_are_recorded_in_full(api, messages):
    deltas = Deltas(KEYED)
    said = deltas.said(api, {FIELD[api]: messages})
    left = deltas.told(api, said, [REPLY, None])
    assert deltas.news(said, left).kind == "full"


def test_the_items_of_a_reply_go_on_whether_or_not_they_are_sent_back_with_their_ids():
    deltas = Deltas(KEYED)
    said = deltas.said("responses", {"input": "Hello"})
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    text = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": None}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x", "sources": None}}
    left = deltas.told("responses", said, [reasoning, search, message])
    asked = {"role": "user", "content": "Hello", "type": "message"}
    there = [asked, reasoning, {**search, "created_by": None}, message, reasoning, MORE]
    bare = [asked, {"type": "web_search_call", "action": {"query": "x"}}, {"role": "assistant", "content": "Hi"}, MORE]
    for sent, first in ((there, 5), (bare, 3)):
        assert deltas.news(deltas.said("responses", {"input": sent}), left)[:2] == ("delta", first)


@pytest.mark.parametrize("id_", ["msg_1", "msg_2"])
def test_a_reference_counts_by_its_id(id_):
    deltas = Deltas(KEYED)
    asked = [{"type": "item_reference", "id": "msg_1"}, MORE]
    left = deltas.told("responses", deltas.said("responses", {"input": asked}), [REPLY])
    again = [{"type": "item_reference", "id": id_}, MORE, REPLY, MORE]
    assert deltas.news(deltas.said("responses", {"input": again}), left).kind == ("delta" if id_ == "msg_1" else "full")


def test_an_image_is_not_read_through_to_know_it_again():
    url = "data:image/png;base64," + "".join(random.Random(1).choices("abcd", k=100_000))
    for part in ({"type": "image_url", "image_url": {"url": url}}, {"type": "input_image", "image_url": url}):
        deltas, asked = Deltas(KEYED), [{"role": "user", "content": [part]}]
        left = told_of(deltas, asked, REPLY)
        other = {**part, "image_url": {"url": url[:-1]} if part["type"] == "image_url" else url[:-1]}
        assert news(left, [*asked, REPLY, MORE], deltas).kind == "delta"
        assert news(left, [{"role": "user", "content": [other]}, REPLY, MORE], deltas).kind == "full"


def turn_of(kind: str, number: int, text: Callable[[], str]) -> tuple[list[Any], dict[str, Any]]:
    """What a turn adds to a conversation, and what is replied."""
    if kind == "tools":
        function = {"name": "look_up", "arguments": json.dumps({"name": text()})}
        calls = [{"id": f"call_{number}", "type": "function", "function": function}]
        before = {"role": "tool", "tool_call_id": f"call_{number - 1}", "content": text()}
        return [before], {"role": "assistant", "content": None, "tool_calls": calls}
    asked = {"role": "user", "content": text()}
    if kind == "items":
        made = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
        return [asked], {**made, "content": [{"type": "output_text", "text": text(), "annotations": []}]}
    return [asked], ChatCompletionMessage(role="assistant", content=text()).model_dump()


MOST_STEPS = {"chat": 68, "tools": 136, "items": 78}
"""Instructions of Python's (bytecodes) for a message that was there before, by the kind of the conversation.

On 3.11, which makes most: 62, 132 and 74. Where each message has a role and a text alone, there is none: see
``test_content_times.py``.
"""


@pytest.mark.parametrize("kind", MOST_STEPS)
def test_a_late_turn_looks_at_its_history_and_makes_digests_of_what_is_new_alone(kind, monkeypatch):
    chance, history, taken = random.Random(1), list[Any](), dict[int, Effort]()
    efforts, deltas, told, api = Efforts(monkeypatch), Deltas(KEYED), None, FIELD_OF[kind]
    for number in range(1, 101):
        added, reply = turn_of(kind, number, lambda: "".join(chance.choices("abcdefgh ", k=400)))
        history += added
        body = {FIELD[api]: [dict(message) for message in history]}  # as the client makes them anew
        said = list[Any]()
        taken[number] = efforts.of(lambda: said.append(said_by(deltas, api, body, told, reply)))
        ((news, left),) = said
        assert news[:2] == (("delta", len(history) - len(added)) if told else ("full", 0))
        told = left
        history.append(reply)
    assert taken[100].digested == taken[10].digested == 2
    assert taken[100].steps - taken[10].steps <= 180 * MOST_STEPS[kind]


FIELD_OF = {"chat": "chat_completions", "tools": "chat_completions", "items": "responses"}


def said_by(deltas: Deltas, api: str, body: dict[str, Any], told: Told | None, reply: Any) -> tuple[Any, Told]:
    """What is new in a turn, and what it leaves."""
    said = deltas.said(api, body)
    return deltas.news(said, told), deltas.told(api, said, [reply])


def test_what_another_process_has_made_of_a_conversation_is_known_from_the_last_turn_here(monkeypatch):
    efforts, processes = Efforts(monkeypatch), (Deltas(KEYED), Deltas(KEYED))
    history, told, digested = list[Any](), None, 0
    for number in range(40):
        history.append({"role": "user", "content": f"Question {number}"})
        reply = {"role": "assistant", "content": f"Answer {number}"}
        said = list[Any]()
        body = {"messages": [*history]}
        digested = efforts.of(
            lambda: said.append(said_by(processes[number % 2], "chat_completions", body, told, reply))
        ).digested
        ((news, told),) = said
        assert news.kind == ("delta" if number else "full")
        history.append(reply)
    assert digested == 4  # two of the other's turn, two of its own


# The dialects of OpenAI, Mistral, OpenRouter, vLLM and Anthropic.
MEGABYTES = "data:image/png;base64," + "A" * 2_000_000
BINARY = {
    "image_url": {"type": "image_url", "image_url": {"url": MEGABYTES}},
    "image_url of Mistral": {"type": "image_url", "image_url": MEGABYTES},
    "input_image": {"type": "input_image", "image_url": MEGABYTES},
    "source": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": MEGABYTES}},
    "image": {"type": "image", "image": MEGABYTES},
    "file": {"type": "file", "file": {"filename": "a.pdf", "file_data": MEGABYTES}},
    "input_file": {"type": "input_file", "file_data": MEGABYTES},
    "document_url": {"type": "document_url", "document_url": MEGABYTES},
    "audio_url": {"type": "audio_url", "audio_url": {"url": MEGABYTES}},
    "input_audio": {"type": "input_audio", "input_audio": {"data": MEGABYTES, "format": "wav"}},
    "video_url": {"type": "video_url", "video_url": {"url": MEGABYTES}},
}
SCREENSHOT = {"type": "computer_screenshot", "image_url": MEGABYTES}
ITEMS_OF_BINARY = {
    "screenshot": {"type": "computer_call_output", "call_id": "call_1", "output": SCREENSHOT},
    "output": {"type": "function_call_output", "call_id": "call_1", "output": [BINARY["input_image"]]},
    "made": {"type": "image_generation_call", "id": "ig_1", "result": MEGABYTES},
}


@pytest.mark.parametrize("kind", BINARY)
def test_binary_data_is_not_read_through_in_whatever_dialect(kind):
    messages = [{"role": "user", "content": [{"type": "text", "text": "Look."}, BINARY[kind]]}]
    for api in FIELD:
        assert characters_compared(api, {FIELD[api]: messages}) < 20_000


@pytest.mark.parametrize("kind", ITEMS_OF_BINARY)
def test_binary_data_is_not_read_through_in_whatever_item(kind):
    assert characters_compared("responses", {"input": [ITEMS_OF_BINARY[kind]]}) < 20_000


def characters_compared(api: str, body: dict[str, Any]) -> int:
    talk = talk_of(api, body)
    assert talk is not None
    return len(repr(talk.forms))


def test_an_image_in_a_reply_is_known_again():
    reply = {"role": "assistant", "content": [{"type": "text", "text": "Here."}, BINARY["image_url"]]}
    deltas = Deltas(KEYED)
    left = told_of(deltas, ASKED, reply)
    assert news(left, [*ASKED, reply, MORE], deltas)[:2] == ("delta", 3)


@pytest.mark.parametrize("as_model", [True, False], ids=["received as a model", "received as a dict"])
def test_an_image_that_a_model_has_made_is_known_again_however_it_is_sent_back(as_model):
    item = ITEMS_OF_BINARY["made"] | {"status": "completed"}
    model, deltas = BaseModel.construct(**item), Deltas(KEYED)
    left = deltas.told("responses", deltas.said("responses", {"input": "Draw."}), [model if as_model else item])
    for sent in (item, model, model.model_dump()):
        again = deltas.said("responses", {"input": [{"role": "user", "content": "Draw."}, sent, MORE]})
        assert deltas.news(again, left)[:2] == ("delta", 2)
