"""The messages of a streamed chat reply, put together from what has been read of it, as an application does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from otel_llm_sessions.openai.fields import Fields, extras_of, field

DELTA: Final = Fields("content", "refusal", "tool_calls", "function_call")

MOST: Final = 128
"""Choices of one reply, and tool calls of one choice: OpenAI's ``n`` goes to 128, and so do its tools."""

MAX_SIZE: Final = 4 * 1024 * 1024
"""Characters of one reply; of a longer one there is no message."""

_PART: Final = 1000
"""What a part of a content counts for that comes as a list: it may be anything."""


class Pieces:
    """What has come of each choice of a reply.

    Example::

        pieces = Pieces()
        for chunk in stream:
            pieces.add(chunk)
        pieces.messages()  # [{"role": "assistant", "content": ["Hel", "lo"]}]
    """

    __slots__ = ("_choices", "_size")

    def __init__(self) -> None:
        self._choices: dict[int, _Message] = {}
        self._size = 0

    def add(self, chunk: Any) -> bool:
        """Take in a chunk: a model, a dict, or whatever a server sent in its place; return whether it ends a choice."""
        choices, ends = field(chunk, "choices"), False
        for position, choice in enumerate(choices) if isinstance(choices, (list, tuple)) else ():
            delta = field(choice, "delta")
            if delta is not None and self._size <= MAX_SIZE:
                message = self._message(_index_of(choice, position))
                self._size += message.add(delta)
            ends = ends or bool(field(choice, "finish_reason"))
        return ends

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages as far as they have come, in the order of the choices; none if they are too long."""
        if self._size > MAX_SIZE:
            return []
        return [message.whole() for _, message in sorted(self._choices.items())]

    def _message(self, index: int) -> _Message:
        message = self._choices.get(index)
        if message is None:
            message = _Message()
            if len(self._choices) < MOST:
                self._choices[index] = message
        return message


class _Message:
    """One choice."""

    __slots__ = ("audio", "called", "calls", "content", "refusal")

    def __init__(self) -> None:
        self.content: list[Any] = []
        self.refusal: list[str] = []
        self.calls: list[_Call] = []
        self.called: _Call | None = None
        self.audio: Any = None

    def add(self, delta: Any) -> int:
        """Take in a delta; return how many characters it brought, at least one for each piece."""
        content, refusal, calls, called = DELTA.of(delta)
        size = 0
        if content and isinstance(content, str):
            self.content.append(content)
            size = len(content)
        elif type(content) is list:  # Mistral's
            self.content.extend(content)
            size = _PART * len(content)
        if refusal and isinstance(refusal, str):
            self.refusal.append(refusal)
            size += len(refusal)
        if calls and isinstance(calls, (list, tuple)):
            size += sum(self._add_call(call) for call in calls)
        if called is not None:
            self.called = self.called or _Call(None)
            size += self.called.add_named(called, "arguments")
        if audio := extras_of(delta).get("audio"):
            self.audio = field(audio, "id") or self.audio
        return size

    def _add_call(self, delta: Any) -> int:
        index, id_ = field(delta, "index"), field(delta, "id")
        call = self._call(index if type(index) is int else None, id_ if type(id_) is str else "")
        return call.add(delta)

    def _call(self, index: int | None, id_: str) -> _Call:
        """Return the tool call that a delta belongs to, by its index (Mistral's have none) and by its id, if any."""
        for call in reversed(self.calls):
            if (index is None or call.index == index) and (not id_ or not call.id or call.id == id_):
                return call
        call = _Call(index)
        if len(self.calls) < MOST:
            self.calls.append(call)
        return call

    def whole(self) -> dict[str, Any]:
        """Return the message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.calls:
            message["tool_calls"] = [call.whole() for call in self.calls]
        if self.called is not None:
            message["function_call"] = dict(self.called.named())
        if self.audio is not None:
            message["audio"] = {"id": self.audio}
        return message


class _Call:
    """One tool call of a choice, or the function call of an old server's."""

    __slots__ = ("arguments", "id", "index", "kind", "name")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.kind = "function"
        self.name = ""
        self.arguments: list[str] = []

    def add(self, delta: Any) -> int:
        """Take in a delta of a tool call; return how many characters it brought."""
        id_ = field(delta, "id")
        if type(id_) is str and id_:
            self.id = id_
        custom = field(delta, "custom")
        if custom is not None:
            self.kind = "custom"
            return self.add_named(custom, "input")
        return self.add_named(field(delta, "function"), "arguments")

    def add_named(self, delta: Any, arguments: str) -> int:
        """Take in what a delta says of a name and of arguments, which a server may also send at once as an object."""
        name, said = field(delta, "name"), field(delta, arguments)
        if type(name) is str and name:
            self.name += "" if name == self.name else name  # some servers say it with every delta
        if said and isinstance(said, str):
            self.arguments.append(said)
            return 1 + len(said)
        return 1

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield name and arguments."""
        yield "name", self.name
        yield "input" if self.kind == "custom" else "arguments", "".join(self.arguments)

    def whole(self) -> dict[str, Any]:
        """Return the tool call."""
        return {"id": self.id, "type": self.kind, self.kind: dict(self.named())}


def _index_of(value: Any, position: int) -> int:
    index = field(value, "index")
    return index if type(index) is int else position
