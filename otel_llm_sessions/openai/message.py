"""What a chat message says, in the one form that all ways to write it have.

A client sends back what it received, written anew: as a model or a dict, with nulls or without them, its text as a
string or as a list of parts. Whatever it leaves out or adds then is no part of what an assistant's message says; of all
other messages, which are sent as they were sent before, everything is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from otel_llm_sessions.cheap import new
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import field, fields_of
from otel_llm_sessions.sessions.digest import canonical

Form = tuple[Any, ...]
"""Role and text of a message; behind them, of one that says more than a text, pairs of a name and what it says there.

It can be hashed, and of two messages that say the same it is the same, but for how arguments are written.
"""

ASSISTANT: Final = "assistant"

SAID: Final = ("role", "content", "refusal", "tool_calls", "function_call", "audio")
"""All that an assistant's message is looked at for."""

_PASSING: Final = frozenset({"role", "content", "cache_control"})
"""What is read elsewhere, and a gateway's mark that wanders from message to message."""

_UNSAID: Final = frozenset({"thinking", "redacted_thinking", "reasoning"})
"""Kinds of parts of a reply that clients are told to leave out."""

_OF_ITEMS: Final = frozenset({"type", "id", "status"})
"""What an item has beside what it says."""

_KIND: Final = frozenset({"type"})

_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of items that are calls of tools, and where their arguments stand."""

_ALSO_MODELS: Final = frozenset({"mcp_list_tools", "mcp_approval_request", "compaction"})
"""Kinds of items that a model or its server has made, besides calls."""

_EMPTY: Final = (str, list, tuple, Mapping)

_LONGEST_ROLE: Final = 64

_LONG: Final = 512
"""Characters of a text beside the message's own from which on its digest stands for it: images, arguments."""


class Odd(Exception):
    """A message is of a kind that JSON has not: nobody can say whether it is the same as another."""


def form_of(message: Any, role: str | None = None) -> Form:
    """Return what a message says.

    Args:
        message: a dict, or one of the client's models.
        role: whose it is, where the message need not say it.

    Raises:
        Odd: it cannot be told.
    """
    said = _fields_of(message)
    role = role or said.get("role")
    if type(role) is not str:
        raise Odd
    text, parts = _content_of(said.get("content"), role)
    more = [("content", parts)] if parts else []
    if role == ASSISTANT:
        if not text and not parts and type(said.get("refusal")) is str:
            text = said["refusal"]
        more.extend(_beside(said))
    else:
        more.extend(_pairs_of(said, _PASSING))
    return (role, text, *more) if more else (role, text)


def plain_forms(messages: Sequence[Any]) -> list[Form | None]:
    """Return what each of some messages says if it is told at a glance, as ``form_of`` does; None of any other.

    A turn has hundreds of them before it, nearly all with a role and a text alone: where all are, no step of Python is
    made for each.
    """
    if _IS_DICT.issuperset(map(type, messages)) and _IS_TWO.issuperset(map(len, messages)):
        try:
            forms: list[Any] = [*map(_ROLE_AND_TEXT, messages)]
        except KeyError as other:  # fields
            pass_on(other)
        else:
            # A message of an assistant's that has no text may say something else.
            if _IS_TEXT.issuperset(map(type, chain.from_iterable(forms))) and (ASSISTANT, "") not in forms:
                return forms
    return [_plain_form(message) for message in messages]


_IS_DICT: Final = frozenset({dict})
_IS_TEXT: Final = frozenset({str})
_IS_TWO: Final = frozenset({2})
_ROLE_AND_TEXT: Final = itemgetter("role", "content")


def _plain_form(message: Any) -> Form | None:
    if type(message) is not dict:
        return None
    role, text = message.get("role"), message.get("content")
    if len(message) == 2 and type(text) is str and type(role) is str and (text or role != ASSISTANT):
        return (role, text)
    if role != ASSISTANT:
        return _plain_answer(message, role, text)
    if message.get("function_call") is not None or message.get("audio") is not None:
        return None
    if message.get("tool_calls"):
        return _plain_calls(message, text)
    return (ASSISTANT, text) if text and type(text) is str else None


def _plain_calls(message: dict[str, Any], text: Any) -> Form | None:
    calls = message["tool_calls"]
    if text is not None or type(calls) is not list or message.get("refusal") is not None:
        return None
    return (ASSISTANT, "", ("tool_calls", tuple([_call_of(call) for call in calls])))


def _plain_answer(message: dict[str, Any], role: Any, text: Any) -> Form | None:
    id_ = message.get("tool_call_id")
    if len(message) == 3 and type(id_) is str and id_ and type(role) is str and type(text) is str:
        return (role, text, ("tool_call_id", id_))
    return None


def plain_items(items: Sequence[Any]) -> list[Form | None]:
    """Return what each of some items says if it is told at a glance, as ``form_of_item`` does; None of any other."""
    return [*map(_plain_item, items)]


def _plain_item(item: Any) -> Form | None:
    if type(item) is not dict:
        return None
    kind, content = item.get("type"), item.get("content")
    if kind == "function_call" and "role" not in item:
        id_, name, arguments = item.get("call_id"), item.get("name"), item.get("arguments")
        if type(id_) is str and type(name) is str and type(arguments) is str:
            return (ASSISTANT, "", ("tool_calls", (new(Called, (id_, name, arguments)),)))
    elif type(content) is str:
        return ("user", content) if len(item) == 2 and item.get("role") == "user" else None
    elif type(content) is list and len(content) == 1 and item.get("role") == ASSISTANT and kind == "message":
        (part,) = content
        if type(part) is dict and part.get("type") == "output_text":
            text = part.get("text")
            return (ASSISTANT, text) if type(text) is str and text.strip() else None
    return None


def form_of_item(item: Any) -> Form | None:
    """Return what an item of a Responses ``input`` or ``output`` says; None of one that clients may leave out.

    What a model has made is the same with and without its id and its status, which some clients do not send back.

    Args:
        item: a dict, or one of the client's models.

    Raises:
        Odd: it cannot be told.
    """
    said = _fields_of(item)
    kind, role = said.get("type"), said.get("role")
    if role is not None:
        if role != ASSISTANT:
            return form_of({name: value for name, value in said.items() if name not in _OF_ITEMS})
        form = form_of(said)
        return form if says_something(form) else None
    if type(kind) is not str:
        raise Odd
    if kind in _UNSAID:
        return None
    if kind in _CALLS:
        called = _called(_text(said.get("call_id")), said, _CALLS[kind])
        return (ASSISTANT, "", ("tool_calls", (called,)))
    is_models = kind.endswith("_call") or kind in _ALSO_MODELS
    return (kind, "", *_pairs_of(said, _OF_ITEMS if is_models else _KIND))


def says_something(form: Form) -> bool:
    """Whether there is anything in what a message says."""
    return len(form) > 2 or bool(form[1].strip())


def digest_of(before: bytes, form: Form) -> bytes:
    """Return the digest of a message and of all before it.

    Args:
        before: the digest of those before it.
        form: what it says.

    Raises:
        Odd: there is none.
    """
    role, text = form[0], form[1]
    if role == ASSISTANT:  # which clients clear of the blanks around it
        text = text.strip()
    head = _head_of(role) if len(form) == 2 else _written([role, *map(_as_digested, form[2:])])
    return sha256(before + head + text.encode("utf-8", "surrogatepass")).digest()


@functools.lru_cache(maxsize=64)
def _head_of(role: str) -> bytes:
    if len(role) > _LONGEST_ROLE:  # nobody's; it is not to be kept
        raise Odd
    return _written([role])


def _written(values: list[Any]) -> bytes:
    # What JSON escapes has no zero byte: the first one ends it, whatever follows.
    return json.dumps(values).encode() + b"\0"


def _fields_of(message: Any) -> Mapping[str, Any]:
    if type(message) is dict:
        return message
    if isinstance(message, Mapping) or hasattr(message, "__pydantic_fields_set__"):
        return fields_of(message, SAID)
    raise Odd


# --- content ------------------------------------------------------------------------------------------------


def _content_of(content: Any, role: str) -> tuple[str, Form]:
    """Return the text that a message's content is, or what it is made of if that is more than text."""
    if content is None or isinstance(content, str):
        return "" if content is None else str.__str__(content), ()
    if not isinstance(content, (list, tuple)):
        return "", (_frozen(content),)
    if len(content) == 1 and type(content[0]) is dict and content[0].get("type") in _TEXTS:  # as most lists are
        text = content[0].get("text")
        if type(text) is str:
            return text, ()
    parts = [part for part in map(_part_of, content) if not (role == ASSISTANT and _is_unsaid(part))]
    if all(type(part) is str for part in parts):
        return "".join(parts), ()
    return "", tuple(_joined(parts))


def _part_of(part: Any) -> Any:
    """Return a part of a content: a string if it is one of text."""
    if isinstance(part, str):
        return str.__str__(part)
    said = _fields_of(part)
    kind = said.get("type")
    for name in ("text", "refusal"):
        if kind in (None, name, f"output_{name}", f"input_{name}") and type(said.get(name)) is str:
            return said[name]
    return tuple(_pairs_of(said, _MARKS))


_TEXTS: Final = ("text", "output_text", "input_text")
_MARKS: Final = frozenset({"cache_control"})


def _is_unsaid(part: Any) -> bool:
    return type(part) is tuple and any(pair == ("type", kind) for pair in part for kind in _UNSAID)


def _joined(parts: Iterable[Any]) -> Iterator[Any]:
    """Yield the parts of a content, texts that follow one another as one."""
    texts: list[str] = []
    for part in parts:
        if type(part) is str:
            texts.append(part)
            continue
        if texts:
            yield "".join(texts)
            texts.clear()
        yield part
    if texts:
        yield "".join(texts)


# --- what stands beside the content ---------------------------------------------------------------------------


class Called(NamedTuple):
    """One tool call of an assistant's message."""

    id: str
    name: str
    arguments: str
    """As they are written."""


def _beside(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what an assistant's message says beside its content."""
    calls = said.get("tool_calls")
    if calls and isinstance(calls, (list, tuple)):
        yield "tool_calls", tuple(map(_call_of, calls))
    called = said.get("function_call")
    if called is not None:
        yield "function_call", _called("", called, "arguments")
    audio = said.get("audio")
    if audio is not None and (id_ := _text(field(audio, "id"))):
        yield "audio", id_


def _call_of(call: Any) -> Called:
    if type(call) is dict and type(function := call.get("function")) is dict:  # as a rule
        id_, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        if type(id_) is str and type(name) is str and type(arguments) is str:
            return new(Called, (id_, name, arguments))
    id_, function = _text(field(call, "id")), field(call, "function")
    return _called(id_, field(call, "custom"), "input") if function is None else _called(id_, function, "arguments")


def _called(id_: str, called: Any, arguments: str) -> Called:
    said = field(called, arguments)
    return Called(id_, _text(field(called, "name")), said if type(said) is str else canonical(said))


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _pairs_of(said: Mapping[str, Any], passing: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Yield what stands in the fields of a mapping, in the order of their names; an empty field is none."""
    names = [name for name in said if name not in passing]
    for name in names:
        if type(name) is not str:
            raise Odd
    for name in sorted(names) if len(names) > 1 else names:
        value = said[name]
        if value or (value is not None and not isinstance(value, _EMPTY)):
            yield name, value if type(value) is str else _frozen(value)


class Number(NamedTuple):
    """A number, or a yes or no, as written: ``1`` and ``True``, ``-1`` and ``-2`` have the same hash in Python."""

    written: str
    """As JSON."""


def _frozen(value: Any) -> Any:
    """Return a value of JSON as one that can be hashed."""
    if value is None:
        return None
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return Number(json.dumps(value))
    if isinstance(value, (list, tuple)):
        return ("[", *map(_frozen, value))
    return ("{", *_pairs_of(_fields_of(value), _MARKS))


def _as_digested(value: Any) -> Any:
    """Return what stands in a form as JSON; what JSON calls objects are calls and digests, and nothing else is."""
    if isinstance(value, str):
        return {"#": sha256(value.encode("utf-8", "surrogatepass")).hexdigest()} if len(value) > _LONG else value
    if type(value) is Number:
        return json.loads(value.written)
    if type(value) is Called:
        return {"call": [value.id, value.name, _as_digested(canonical(value.arguments))]}
    return [_as_digested(each) for each in value] if type(value) is tuple else value
