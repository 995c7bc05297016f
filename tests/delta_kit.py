"""Conversations that go on, fork, shrink and are rewritten; and how a reader puts one together from what was recorded.

Every message has a text of its own, by which it is found again wherever it stands.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from echo_kit import call_id, hexadecimal
from openai.types.chat import ChatCompletionMessage

Json = dict[str, Any]

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

KINDS = ("chat", "items", "chain", "conversation")


def words_in(said: Any) -> list[str]:
    """The messages in something, in order."""
    return re.findall(r"w[0-9]+w", said if isinstance(said, str) else json.dumps(said, default=as_json))


@dataclass
class Turn:
    """One turn, as the application knows it."""

    kind: str
    body: Json
    reply: list[Json]
    """The message of a chat reply; the items of a response."""
    before: Turn | None
    """The turn that it goes on from by what it names; None where that is the session's newest."""
    id: str
    context: list[str]
    """All that the model was told, in order."""
    is_recorded: bool = True
    is_unsampled: bool = False
    fails: bool = False
    amid: list[str] = field(default_factory=list)
    """The turns that went on when it began."""

    @property
    def api(self) -> str:
        return "chat_completions" if self.kind == "chat" else "responses"

    @property
    def after(self) -> list[str]:
        """The conversation with the reply."""
        return [*self.context, *([] if self.fails else words_in(self.reply))]


@dataclass
class Talker:
    """An application that holds one conversation."""

    kind: str
    random: random.Random
    turns: list[Turn] = field(default_factory=list)
    history: list[Any] = field(default_factory=list)
    instructions: str = "Be brief."
    _words: int = 0
    _states: list[tuple[list[Any], Turn]] = field(default_factory=list)

    def word(self) -> str:
        """A text that stands nowhere else."""
        self._words += 1
        return f"w{self.random.randrange(1 << 30)}{self._words:04}w"

    def play(self) -> Turn:
        """The next turn; ``keep`` takes in what came of it."""
        before = self.turns[-1] if self.turns else None
        if before is None:
            self._open()
        elif self.kind in ("chat", "items"):
            before = self._go_on(before)
        elif self.kind == "chain":
            before = self.random.choice(self.turns[-3:]) if self.random.random() < 0.2 else before
            while before.fails and before.before is not None:  # nobody goes on from a response that was not made
                before = before.before
            self.history = []
        else:
            self.history = []
        self._say()
        turn = Turn(self.kind, self._body(before), [], before, hexadecimal("resp"), self._context(before))
        turn.fails = bool(self.turns) and self.random.random() < 0.05
        chance = self.random.random()
        turn.is_recorded, turn.is_unsampled = chance > 0.1, chance < 0.05
        turn.reply = self._reply(turn)
        self.turns.append(turn)
        return turn

    # --- what the application sends -----------------------------------------------------------------------------

    def _open(self) -> None:
        if self.kind == "chat":
            self.history.append({"role": "system", "content": self.word()})
        for _ in range(self.random.choice((0, 0, 2)) if self.kind in ("chat", "items") else 0):  # examples
            self.history += [{"role": "user", "content": self.word()}, {"role": "assistant", "content": self.word()}]

    def _go_on(self, before: Turn) -> Turn:
        chance, history = self.random.random(), self.history
        if chance < 0.05:
            history[0] = {"role": "system", "content": self.word()}
        elif chance < 0.1:
            del history[self.random.randrange(len(history)) :]
        elif chance < 0.15:
            del history[: self.random.randrange(1, len(history) + 1)]
        elif chance < 0.2:
            history[self.random.randrange(len(history))] = {"role": "user", "content": self.word()}
        elif chance < 0.25:
            history[:] = [{"role": "user", "content": f"In short: {self.word()}"}]
        elif chance < 0.35 and self._states:
            history[:], before = self.random.choice(self._states)
            history[:] = [*history]
        if self.random.random() < 0.05:
            self.instructions = self.random.choice(("", "Be brief.", "Be long."))
        return before

    def _say(self) -> None:
        last = self.history[-1] if self.history else {}
        if self.random.random() < 0.05 and self.history:
            return  # the same once more
        said: Any = self.word()
        if self.random.random() < 0.1:
            kind = "text" if self.kind == "chat" else "input_text"
            said = [{"type": kind, "text": said}, {"type": kind, "text": self.word()}]
        if self.kind == "items" and isinstance(last, dict) and last.get("type") == "function_call":
            self.history.append({"type": "function_call_output", "call_id": last["call_id"], "output": self.word()})
        elif self.kind == "chat" and isinstance(last, dict) and last.get("tool_calls"):
            self.history += [
                {"role": "tool", "tool_call_id": call["id"], "content": self.word()} for call in last["tool_calls"]
            ]
        else:
            self.history.append({"role": "user", "content": said})

    def _body(self, before: Turn | None) -> Json:
        if self.kind == "chat":
            return {"model": "m", "messages": [*self.history], "tools": TOOLS}
        body = {"model": "m", "input": [*self.history], "instructions": self.instructions, "tools": TOOLS}
        only = self.history[0]
        if len(self.history) == 1 and isinstance(only, dict) and isinstance(only.get("content"), str):
            body["input"] = only["content"] if only["role"] == "user" and self.random.random() < 0.7 else body["input"]
        if self.kind == "chain" and before is not None and not before.fails:
            body["previous_response_id"] = before.id
        if self.kind == "conversation":
            body["conversation"] = self.conversation
        return body

    @property
    def conversation(self) -> str:
        return f"conv_{id(self):048x}"

    def _context(self, before: Turn | None) -> list[str]:
        said = words_in([as_json(item) for item in self.history])
        if self.kind == "chain" and before is not None and not before.fails:
            return [*before.after, *said]
        if self.kind == "conversation" and before is not None:
            return [*before.after, *said]
        return said

    # --- what comes back ----------------------------------------------------------------------------------------

    def _reply(self, turn: Turn) -> list[Json]:
        calls, chance = self.random.random() < 0.3, self.random.random()
        if self.kind == "chat":
            if calls:
                return [{"role": "assistant", "content": None, "tool_calls": [self._call() for _ in range(2)]}]
            if chance < 0.05:
                return [{"role": "assistant", "content": ""}]
            if chance < 0.1:
                turn.body["n"] = 2
            said = self.random.choice(("{} {}", " {} {}\n"))
            return [
                {"role": "assistant", "content": said.format(self.word(), self.word())}
                for _ in range(turn.body.get("n", 1))
            ]
        items: list[Json] = []
        if chance < 0.3:
            items.append({"type": "reasoning", "id": hexadecimal("rs"), "summary": []})
        if calls and self.kind == "items":
            arguments = json.dumps({"of": self.word(), "b": 1})
            made = {"type": "function_call", "id": hexadecimal("fc"), "call_id": call_id(), "name": "add"}
            return [*items, {**made, "arguments": arguments, "status": "completed"}]
        content = [{"type": "output_text", "text": self.word(), "annotations": []}]
        made = {"type": "message", "id": hexadecimal("msg"), "role": "assistant", "status": "completed"}
        return [*items, {**made, "content": content}]

    def _call(self) -> Json:
        function = {"name": "add", "arguments": json.dumps({"of": self.word(), "b": 1})}
        return {"id": call_id(), "type": "function", "function": function}

    def keep(self, turn: Turn) -> None:
        """Take in the reply to a turn."""
        if turn.fails:
            return
        ways = CHAT_WAYS if self.kind == "chat" else ITEM_WAYS
        back = self.random.choice([*ways.values()])
        self.history += [
            sent for item in (turn.reply[:1] if self.kind == "chat" else turn.reply) if (sent := back(item)) is not None
        ]
        self._states = [*self._states[-3:], ([*self.history], turn)]


def as_json(item: Any) -> Any:
    """An item as it goes over the wire."""
    return item if isinstance(item, dict) else item.model_dump(mode="json")


TOOLS = [{"type": "function", "name": "add", "function": {"name": "add", "parameters": {"type": "object"}}}]

CHAT_WAYS: dict[str, Callable[[Json], Any]] = {
    "as it was": lambda message: message,
    "as the model": ChatCompletionMessage.model_validate,
    "as a dict of the model": lambda message: ChatCompletionMessage.model_validate(message).model_dump(),
    "without nulls": lambda message: {name: value for name, value in message.items() if value is not None},
    "as parts": lambda message: (
        {**message, "content": [{"type": "text", "text": message["content"]}]} if message["content"] else message
    ),
    "stripped": lambda message: {**message, "content": message["content"] and message["content"].strip()},
}
ITEM_WAYS: dict[str, Callable[[Json], Any]] = {
    "as it was": lambda item: item,
    "without ids": lambda item: {name: value for name, value in item.items() if name not in ("id", "status")},
    "without reasoning": lambda item: None if item["type"] == "reasoning" else item,
    "with nulls": lambda item: {**item, "namespace": None, "phase": None, "created_by": None},
    "as an easy message": lambda item: (
        {"role": "assistant", "content": item["content"][0]["text"]} if item["type"] == "message" else item
    ),
}


# --- the reader -------------------------------------------------------------------------------------------------


@dataclass
class Recorded:
    """What a reader sees of a turn."""

    kind: str
    before: str | None
    """The turn that it links to."""
    input: Any
    output: Any


def context_of(id_: str, recorded: Mapping[str, Recorded], read: Callable[[Any], list[Any]] = words_in) -> list[Any]:
    """The context of a turn, as docs/content.md defines it: what the model was told, in order.

    Args:
        id_: the turn.
        recorded: all turns.
        read: returns the messages in what is recorded of a turn's input or output.
    """
    own, before = read(recorded[id_].input), recorded[id_].before
    if recorded[id_].kind == "full":
        return own
    assert before is not None, "nothing is new against nothing"
    return [*context_of(before, recorded, read), *read(recorded[before].output), *own]


def is_context(found: list[str], turn: Turn) -> bool:
    """Whether a reader has found what the model was told; of what the server keeps, all since a ``full`` turn."""
    if turn.kind in ("chat", "items"):
        return found == turn.context
    return bool(found) and found == turn.context[-len(found) :]
