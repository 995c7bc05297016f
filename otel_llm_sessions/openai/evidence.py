"""What ties calls together: a table of what a request tells, and its mirror, of what a reply leaves behind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from otel_llm_sessions.cheap import new, value
from otel_llm_sessions.openai.added import Noted, conversation_with
from otel_llm_sessions.openai.echoes import (
    MAX_LEFT,
    is_list,
    left_by_choices,
    left_by_output,
    may_echo,
    ties_of_input,
    ties_of_messages,
)
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import UNSHARED, DigestSource
from otel_llm_sessions.sessions.keys import (
    cache_key,
    cache_keys_of_conversation,
    conversation_key,
    response_key,
    session_key,
    unscoped_key,
)
from otel_llm_sessions.sessions.names import MAX_NAME, name_of_response
from otel_llm_sessions.sessions.resolver import NOTHING_TOLD, Evidence, Tie, tie_by
from otel_llm_sessions.sessions.sources import Given


class Asked(NamedTuple):
    """What a reader of evidence sees of a request."""

    body: Mapping[str, Any]
    """The JSON body, with what ``extra_body`` adds to it."""
    previous_id: str | None
    """The response before, or the one that is fetched."""
    server: Server
    digests: DigestSource
    """Makes the digests that tell apart what an id does not."""


@value
class Reader:
    """One kind of evidence in requests."""

    field: str
    """Which field of the body tells it."""
    ties: Callable[[Asked], Iterable[Tie]]
    """Returns what ties a request to earlier calls, the strongest first."""
    may_tell: Callable[[Any], bool] = bool
    """Whether the field's value may tell anything; most do not, which is to be seen at a glance."""


def _echoed_items(asked: Asked) -> Iterable[Tie]:
    said = asked.body.get("input")
    ties = ties_of_input(said, asked.server, asked.digests)
    if Noted.is_any and not ties and asked.previous_id is None:
        return _just_added(said, asked.server)
    return ties


def _may_be_items(said: Any) -> bool:
    return Noted.is_any or (type(said) is not str and is_list(said))


def _just_added(said: Any, server: Server) -> Iterable[Tie]:
    conversation = conversation_with(said, server)
    if conversation is None:
        return ()
    key = conversation_key(conversation, server.scope)
    return (tie_by("item", key, key, is_newest=True),)


def _echoed_tool_calls(asked: Asked) -> Iterable[Tie]:
    return ties_of_messages(asked.body.get("messages"), asked.server, asked.digests)


def _cache_key(asked: Asked) -> Iterable[Tie]:
    key = cache_key(asked.body.get("prompt_cache_key"), asked.server.scope)
    # It is left by each turn that has it, and by that is always the newest's.
    return () if key is None else (tie_by("item", key, key, is_newest=True),)


READERS: Final[dict[str, tuple[Reader, ...]]] = {
    "responses": (Reader("input", _echoed_items, _may_be_items), Reader("prompt_cache_key", _cache_key)),
    "chat_completions": (Reader("messages", _echoed_tool_calls, may_echo), Reader("prompt_cache_key", _cache_key)),
}
"""The kinds of evidence by API (``openai.api.type``), the strongest first; stronger than all is the response before."""

BESIDE_INPUT: Final = frozenset(reader.field for reader in READERS["responses"] if reader.field != "input")
"""What is read of a Responses request whose ``input`` is a text that ties it to nothing."""


@value
class Left:
    """One kind of what replies leave behind."""

    field: str
    """Which field of a reply, or of the response in an event, tells it."""
    keys: Callable[[Any, Server, DigestSource], Iterable[str]]
    """Returns the keys under which the turn is remembered for a value of that field."""


def _of_a_response(id_: Any, server: Server, _: DigestSource) -> Iterable[str]:
    return (response_key(id_, server.scope),)


def left_by_items(items: Any, server: Server, digests: DigestSource) -> Iterable[str]:
    """Return the keys of a conversation's items, of a long page those of the items at both its ends."""
    if isinstance(items, (list, tuple)) and len(items) > MAX_LEFT:
        half = MAX_LEFT // 2
        items = [*items[:half], *items[-half:]]
    return left_by_output(items, server, digests)


def left_by_conversation(id_: str, server: Server) -> Iterable[str]:
    """Return the keys of what stands for a conversation in requests that do not name it."""
    return (conversation_key(id_, server.scope), *cache_keys_of_conversation(id_, server.scope))


LEFT: Final[dict[str, tuple[Left, ...]]] = {
    "responses": (Left("id", _of_a_response), Left("output", left_by_output)),
    "chat_completions": (Left("choices", left_by_choices),),
    "conversations": (Left("data", left_by_items),),
}
"""What replies leave by API (``openai.api.type``): what ``READERS`` find in later requests.

The id of a chat completion is in no row: requests do not echo it. ``learn`` relies on that.
"""


def evidence_of(
    api: str,
    given: Given | None,
    previous_id: str | None,
    body: Mapping[str, Any],
    server: Server,
    digests: DigestSource = UNSHARED,
) -> Evidence:
    """Return what a request says of its session.

    Args:
        api: the API that is called.
        given: the session that it names.
        previous_id: the response that it follows.
        body: its JSON body.
        server: whom it goes to.
        digests: makes digests.
    """
    ties: tuple[Tie, ...] = ()
    key = ""
    named: Any = None  # a cast is a call
    if previous_id is not None:
        key, named = unscoped_key(previous_id), previous_id
        if not key or len(previous_id) > MAX_NAME:  # most ids are one of a kind, and then names as they are
            key, named = response_key(previous_id, server.scope), name_of_response(previous_id, server.name)
        ties = (tie_by("chain", key),)
    # Most responses are asked for by a text, which tells nothing behind another response, nor where nobody has put an
    # item into a conversation.
    tells_nothing = previous_id is not None or (api == "responses" and not Noted.is_any)
    says_text = tells_nothing and type(body.get("input")) is str
    for reader in () if says_text and BESIDE_INPUT.isdisjoint(body) else READERS[api]:
        name = reader.field
        if name in body and (said := body[name]) is not None and reader.may_tell(said):
            ties = (*ties, *reader.ties(new(Asked, (body, previous_id, server, digests))))
    if not ties:
        return NOTHING_TOLD if given is None else _named_only(given)
    only = key if given is None and len(ties) == 1 else ""
    return Evidence(given, ties, previous_id, named, "", only)


@functools.lru_cache(maxsize=256)
def _named_only(given: Given) -> Evidence:
    """Return the evidence of calls that name their session and tell nothing else; kept, as most of a session do so."""
    return Evidence(given, key=session_key(given.session_id))
