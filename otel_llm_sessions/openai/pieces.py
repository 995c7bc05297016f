"""The messages of a streamed chat reply, put together from what has been read of it, as an application does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import Fields, extras_of, field, fields_of
from otel_llm_sessions.openai.words.beside import PART, Beside

DELTA: Final = Fields("content", "refusal", "tool_calls", "function_call")

_AUDIO: Final = ("audio",)

MOST: Final = 128
"""Choices of one reply, and tool calls of one choice: OpenAI's ``n`` goes to 128, and so do its tools."""

MAX_SIZE: Final = 4 * 1024 * 1024
"""Characters of one reply; of a longer one there is no message."""


class Pieces:
    """What has come of each choice of a reply.

    Example::

        pieces = Pieces()
        for chunk in stream:
            pieces.add(chunk)
        pieces.messages()  # [{"role": "assistant", "content": ["Hel", "lo"]}]
    """

    __slots__ = ("_choices", "_is_evidence", "_is_whole", "_size")

    def __init__(self, is_whole: bool = False, is_evidence: bool = True) -> None:
        """Begin with nothing.

        Args:
            is_whole: whether what clients do not send back is put together, too: reasoning, sounds, sources.
            is_evidence: whether it matters when a choice ends.
        """
        self._choices: dict[int, _Message] = {}
        self._is_whole = is_whole
        self._is_evidence = is_evidence
        self._size = 0

    def add(self, chunk: Any) -> bool:
        """Take in a chunk: a model, a dict, or whatever a server sent in its place; return whether it ends a choice.

        Where that is no evidence, it never does.
        """
        if type(chunk) is not dict and self._adds_text(chunk):
            return False
        choices, ends = field(chunk, "choices"), False
        for position, choice in enumerate(choices) if isinstance(choices, (list, tuple)) else ():
            delta = field(choice, "delta")
            if delta is not None and self._size <= MAX_SIZE:
                message = self._message(_index_of(choice, position))
                self._size += message.add(delta)
            ends = ends or bool(field(choice, "finish_reason"))
        return ends and self._is_evidence

    def _adds_text(self, chunk: Any) -> bool:
        """Take in the common chunk, at the cost of a few look-ups: one choice, which goes on with a piece of text."""
        try:
            (choice,) = chunk.__dict__["choices"]
            said = choice.__dict__
            delta = said["delta"]
            fields = delta.__dict__
            content = fields["content"]
            if type(content) is not str or said["finish_reason"] is not None or fields["tool_calls"] is not None:
                return False
            if fields["refusal"] is not None or fields["function_call"] is not None or fields.get("audio") is not None:
                return False
            if delta.__pydantic_extra__ or self._size > MAX_SIZE:
                return False
            self._choices[said["index"]].content.append(content)
        except (AttributeError, KeyError, TypeError, ValueError) as odd:  # or the first of a choice
            pass_on(odd)
            return False
        self._size += len(content)
        return True

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages as far as they have come, in the order of the choices; none if they are too long."""
        if self._size > MAX_SIZE:
            return []
        return [message for _, message in self.so_far()]

    def so_far(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the messages as far as they have come, and as far as they fit, with the index of each choice."""
        return [(index, message.whole()) for index, message in sorted(self._choices.items())]

    def _message(self, index: int) -> _Message:
        message = self._choices.get(index)
        if message is None:
            message = _Message(Beside() if self._is_whole else None)
            if len(self._choices) < MOST:
                self._choices[index] = message
        return message


class _Message:
    """One choice."""

    __slots__ = ("audio", "beside", "called", "calls", "content", "refusal")

    def __init__(self, beside: Beside | None) -> None:
        self.beside = beside
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
            size = PART * len(content)
        if refusal and isinstance(refusal, str):
            self.refusal.append(refusal)
            size += len(refusal)
        if calls and isinstance(calls, (list, tuple)):
            size += sum(self._add_call(call) for call in calls)
        if called is not None:
            self.called = self.called or _Call(None)
            size += self.called.add_named(called, "arguments")
        # The model of a delta knows it since openai 3; of those before, it is one of the extras.
        if audio := fields_of(delta, _AUDIO).get("audio"):
            self.audio = field(audio, "id") or self.audio
        if self.beside is not None:
            size += self.beside.add(extras_of(delta), audio)
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
        if self.beside is not None:
            message.update(self.beside.whole())
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
