"""Ids that come back: those of items and tool calls, as replies leave them and as later requests echo them.

Both sides are read by the same functions, so that what was left is what is looked for. Only shapes of the wire are
known here, and nothing is kept but keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from otel_llm_sessions.openai.fields import field, fields_of
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.sessions.keys import call_key, following_key, item_key, seen_call_key
from otel_llm_sessions.sessions.link import Source
from otel_llm_sessions.sessions.names import id_of
from otel_llm_sessions.sessions.randomness import EVIDENCE_BITS, SHORTEST_UNIQUE, UNIQUE_BITS, worth_of
from otel_llm_sessions.sessions.resolver import Tie, tie_by

MAX_ECHOED: Final = 12
"""How many ids of a request are looked up: those that stand last in it.

One that others may have, too, counts thrice: it takes a digest of what its call says.
"""

MAX_WEIGHED: Final = 24
"""How many ids of a request are looked at in order to find those: a server that counts has none that are any good."""

MAX_SEARCHED: Final = 1_000
"""How many items or messages of a request are searched for ids: those that stand last in it."""

MAX_LEFT: Final = 64
"""How many items or tool calls of a reply are remembered: those that stand last in it."""

MAX_STEPS_BACK: Final = 3
"""How many replies without ids, behind the last id, are taken for one that nobody made through this client."""

ITEM_FIELDS: Final = ("id", "call_id", "type", "role", "name", "arguments", "input", "approval_request_id")
MESSAGE_FIELDS: Final = ("role", "tool_calls", "tool_call_id")
CALLING_FIELDS: Final = (*ITEM_FIELDS, *MESSAGE_FIELDS)


Echo: TypeAlias = tuple[Any, int, Any, bool]
"""An id in a request, of which many are looked at: what stands where an id should; where its item or message stands;
what says the call's name and arguments, None where the id stands alone; whether it is of a tool call."""


def keys_of(id_: str, beside: Any, is_call: bool, server: Server, digests: DigestSource) -> tuple[str, ...]:
    """Return the keys of an id: that by which it ties calls together, then that by which it does so here alone.

    Args:
        id_: the id.
        beside: what says the call's name and arguments; None where the id stands alone.
        is_call: whether it is of a tool call.
        server: who gave it.
        digests: makes the digests.
    """
    bits = worth_of(id_)
    if bits >= UNIQUE_BITS:
        return (item_key(id_),)
    if bits < EVIDENCE_BITS or not is_call:
        return ()
    seen = seen_call_key(id_, server.scope)
    said = said_by(beside)
    return (seen,) if said is None else (call_key(id_, server.scope, digests.get().of_call(*said)), seen)


def said_by(call: Any) -> tuple[str, Any] | None:
    """Return the name and the arguments of a tool call, of whichever API; None if it does not say them."""
    said = fields_of(call, ITEM_FIELDS) if call is not None else {}
    inner = said.get("function") or said.get("custom")
    if inner is not None:
        said = fields_of(inner, ITEM_FIELDS)
    name, arguments = said.get("name"), said.get("arguments")
    return (name, said.get("input") if arguments is None else arguments) if isinstance(name, str) else None


# --- what replies leave ---------------------------------------------------------------------------------------


def left_by_output(output: Any, server: Server, digests: DigestSource) -> list[str]:
    """Return the keys of a response's output items."""
    keys: list[str] = []
    if type(output) is list or isinstance(output, (list, tuple)):
        for item in output if len(output) <= MAX_LEFT else output[-MAX_LEFT:]:
            said = fields_of(item, ITEM_FIELDS)
            if "call_id" in said and (call_id := id_of(said["call_id"])) is not None:
                keys += keys_of(call_id, item, True, server, digests)
            # Whether it is one of a kind is looked at where it comes back; of most no request ever asks.
            if "id" in said and (id_ := id_of(said["id"])) is not None and len(id_) >= SHORTEST_UNIQUE:
                keys.append(item_key(id_))
    return keys


def left_by_choices(choices: Any, server: Server, digests: DigestSource) -> Iterable[str]:
    """Return the keys of the tool calls in a chat completion's choices."""
    keys: list[str] = []
    for call in calls_in(choices):
        id_ = id_of(field(call, "id"))
        if id_ is not None:
            keys += keys_of(id_, call, True, server, digests)
    return keys


def calls_in(choices: Any) -> list[Any]:
    """Return the tool calls in a chat completion's choices."""
    calls: list[Any] = []
    for choice in choices if isinstance(choices, (list, tuple)) else ():
        found = field(field(choice, "message"), "tool_calls")
        if found and isinstance(found, (list, tuple)):
            calls.extend(found)
    return calls[-MAX_LEFT:]


# --- what requests echo ---------------------------------------------------------------------------------------


def is_list(items: Any) -> bool:
    """Whether an ``input`` is one of items; most are texts."""
    return type(items) is not str and isinstance(items, (list, tuple))


def may_echo(messages: Any) -> bool:
    """Whether chat messages may hold ids of tool calls; those of most requests do not."""
    if type(messages) is not list and not isinstance(messages, (list, tuple)):
        return False
    for message in messages if len(messages) <= MAX_SEARCHED else messages[-MAX_SEARCHED:]:
        if "tool_calls" in message or "tool_call_id" in message if type(message) is dict else message is not None:
            return True
    return False


def ties_of_input(items: Any, server: Server, digests: DigestSource) -> Sequence[Tie]:
    """Return what ties a Responses request to earlier calls by the ids in its ``input``, the last of them first."""
    if not isinstance(items, (list, tuple)) or not items:
        return ()
    return _ties("item", items, _echoes_of_input(items), server, digests)


def ties_of_messages(messages: Any, server: Server, digests: DigestSource) -> Sequence[Tie]:
    """Return what ties a chat request to earlier calls by the ids of its tool calls, the last of them first."""
    if not may_echo(messages):
        return ()
    return _ties("tool_call", messages, _echoes_of_messages(messages), server, digests)


def _echoes_of_input(items: Sequence[Any]) -> Iterator[Echo]:
    place = len(items)
    for item in islice(reversed(items), MAX_SEARCHED):
        place -= 1
        said = item if type(item) is dict else fields_of(item, ITEM_FIELDS)
        get = said.get
        call_id = get("call_id")
        if call_id is not None:
            yield call_id, place, item if "name" in said else None, True
        id_ = get("id")
        if id_ is not None:
            yield id_, place, None, False
        asked_for = get("approval_request_id")
        if asked_for is not None:
            yield asked_for, place, None, False


def _echoes_of_messages(messages: Sequence[Any]) -> Iterator[Echo]:
    place = len(messages)
    for message in islice(reversed(messages), MAX_SEARCHED):
        place -= 1
        said = message if type(message) is dict else fields_of(message, MESSAGE_FIELDS)
        calls, id_ = said.get("tool_calls"), said.get("tool_call_id")
        if id_ is not None:
            yield id_, place, None, True
        if calls and isinstance(calls, (list, tuple)):
            for call in reversed(calls):
                yield field(call, "id"), place, call, True


def _ties(
    source: Source, items: Sequence[Any], echoes: Iterator[Echo], server: Server, digests: DigestSource
) -> Sequence[Tie]:
    ties: list[Tie] = []
    seen: set[str] = set()
    last, room = len(items) - 1, MAX_ECHOED
    for said, place, beside, is_call in echoes:
        id_ = id_of(said)
        if id_ is None or id_ in seen:
            continue
        if len(seen) == MAX_WEIGHED or room <= 0:
            break
        seen.add(id_)
        bits = worth_of(id_)
        if bits >= UNIQUE_BITS:
            room -= 1
            key = item_key(id_)
        elif is_call and bits >= EVIDENCE_BITS:
            room -= 3
            key = keys_of(id_, beside or _call_of(id_, items, place), True, server, digests)[0]
        else:
            continue
        if ties:
            ties.append(tie_by(source, key, "", place == last))
        else:
            ties.extend(_newest(source, key, items, place))
    return ties


def _call_of(id_: str, items: Sequence[Any], place: int) -> Any:
    """Return the tool call that an output is of, among what stands before it; None if it is not there."""
    for before in range(place - 1, max(-1, place - 1 - MAX_SEARCHED), -1):
        item = items[before]
        said = item if type(item) is dict else fields_of(item, CALLING_FIELDS)
        if said.get("call_id") == id_ and "name" in said:
            return item
        calls = said.get("tool_calls")
        for call in calls if isinstance(calls, (list, tuple)) else ():
            if field(call, "id") == id_:
                return call
    return None


# --- what stands behind the last id ---------------------------------------------------------------------------


def _newest(source: Source, key: str, items: Sequence[Any], place: int) -> Iterator[Tie]:
    """Yield what ties a request to the turn whose id stands last in it, or to one that followed without leaving an id.

    Clients drop the ids of texts. So a turn is remembered, too, by the last id in its request and by how many replies
    stand behind that one; a request that forks off is told from the one that goes on.
    """
    replies = _replies_after(items, place)
    following = following_key(key, replies + 1)
    for count in range(replies, max(0, replies - MAX_STEPS_BACK), -1):
        yield tie_by(source, following_key(key, count), following)
    yield tie_by(source, key, following, place == len(items) - 1)


def _replies_after(items: Sequence[Any], place: int) -> int:
    """Return how many replies stand behind a place: items or messages in a row that a model made are one."""
    count, was_reply = 0, True
    for item in items[place:]:
        said = item if type(item) is dict else fields_of(item, ITEM_FIELDS)
        role = said.get("role")
        is_reply = role == "assistant" if role is not None else _is_models(said.get("type"))
        if is_reply and not was_reply:
            count += 1
        was_reply = is_reply
    return count


def _is_models(kind: Any) -> bool:
    """Whether items of a kind, which say no role, are what a model made."""
    return isinstance(kind, str) and (kind == "reasoning" or kind.endswith("_call"))
