"""What is recorded of a long conversation, and what is kept of its words: few bytes, and none."""

from __future__ import annotations

import json
import random
import string
from typing import Any

import openai
import pytest
from answered import client_of, httpx
from delta_kit import CONTENT
from echo_kit import called, completion, gave_back, message, response, tool_call

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

TURNS, TALK = 100, 80_000
MOST_RECORDED = 2 * TALK

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"look_up_{number}",
            "description": "Looks something up in the catalogue of the shop, by its name or by its number. " * 2,
            "parameters": {"type": "object", "properties": {"name": {"type": "string", "description": "what"}}},
        },
    }
    for number in range(5)
]
ATTRIBUTES = (
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
)


class Talk:
    """A conversation of so many turns, of texts as long as each other."""

    def __init__(self, kind: str, turns: int = TURNS) -> None:
        self.kind = kind
        self.turns = turns
        self.random = random.Random(kind)
        self.words: list[str] = []
        self.history: list[Any] = []
        self.made: dict[str, Any] = {}

    def text(self) -> str:
        text = "".join(self.random.choices(string.ascii_letters + "     ", k=TALK // self.turns // 2))
        self.words.append(text[:40])
        return text

    def ask(self, client: openai.OpenAI, number: int) -> None:
        if self.kind == "chat":
            self._chat(client, number)
        elif self.kind == "items":
            self._items(client)
        else:
            self._tools(client, number)

    def _chat(self, client: openai.OpenAI, number: int) -> None:
        self.history.append({"role": "user", "content": self.text()})
        self.made = completion({"role": "assistant", "content": self.text()})
        reply = client.chat.completions.create(
            model="m", messages=self.history, tools=TOOLS, extra_headers={"x-session-id": self.kind}
        )
        said = reply.choices[0].message
        self.history.append(said if number % 2 else {"role": "assistant", "content": said.content})

    def _tools(self, client: openai.OpenAI, number: int) -> None:
        """Each turn but the first gives back what a tool said."""
        if number == 1:
            self.history.append({"role": "user", "content": self.text()})
        tool = tool_call(arguments=json.dumps({"name": self.text()}))
        self.made = completion(called(tool))
        client.chat.completions.create(model="m", messages=self.history, tools=TOOLS)
        self.history += [called(tool), {**gave_back(tool)[0], "content": self.text()}]

    def _items(self, client: openai.OpenAI) -> None:
        self.history.append({"role": "user", "content": self.text()})
        self.made = response(message(self.text()))
        tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
        client.responses.create(model="m", input=self.history, tools=tools, instructions="Be brief.")
        self.history += self.made["output"]


def held(talk: Talk, turns: int = 0) -> None:
    """Hold a conversation, or its first turns."""
    client = client_of(lambda _: httpx.Response(200, json=talk.made))
    for number in range(1, (turns or talk.turns) + 1):
        talk.ask(client, number)
    client.close()


@pytest.fixture(autouse=True)
def _content_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")


@pytest.mark.parametrize(
    ("kind", "turns"),
    # For each turn the client looks at the whole history: a hundred take it seconds.
    [("chat", 40), *(pytest.param(kind, TURNS, marks=pytest.mark.slow) for kind in ("chat", "tools", "items"))],
)
@pytest.mark.usefixtures("nothing_reported")
def test_a_long_conversation_is_recorded_once(kind, turns):
    with capture_spans(traces="turn") as spans:
        held(Talk(kind, turns))
    assert [span.attributes["llm_session.content"] for span in spans] == ["full"] + ["delta"] * (turns - 1)
    recorded = sum(len(span.attributes.get(name, "").encode()) for span in spans for name in ATTRIBUTES)
    assert TALK < recorded <= MOST_RECORDED


@pytest.mark.parametrize("kind", ["chat", "items"])
def test_a_store_keeps_no_words(kind, tmp_path):
    talk, path = Talk(kind), tmp_path / "sessions.db"
    with capture_spans(store=f"sqlite:///{path}", key="k"):
        held(talk, 5)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"ols:" in kept
    assert not [text for text in (*talk.words, "Be brief", "look_up") if text.encode() in kept]


def test_where_content_is_off_nothing_of_it_is_left(monkeypatch):
    monkeypatch.delenv(CONTENT)
    store = MemoryStore()
    with capture_spans(store=store):
        held(Talk("chat"), 3)
    (link,) = store.get_all(["s:chat"])
    assert link is not None
    assert link.turn == 3
    assert link.told is None
