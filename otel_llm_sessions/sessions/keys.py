"""The keys under which a turn is remembered: one per piece of evidence it leaves."""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from typing import Final

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.randomness import UNIQUE_BITS, bits_of

MAX_KEY: Final = 160
"""Characters of a key behind its prefix: of longer ones a digest is kept, so that what is known is bounded in bytes."""


SCOPED_PREFIX: Final = "r@"
"""How the key of an id begins that is not one of a kind."""


CACHE_PREFIX: Final = "c:"
"""How the key of a prompt cache key begins."""

_OF_AGENTS_SDK: Final = re.compile(r"agents-sdk:(?:conversation|session|group|run):[0-9a-f]{32}")


@functools.lru_cache(maxsize=256)  # what is the same text again is found in a map in half of the time
def session_key(session_id: str) -> str:
    """Key of a session's newest turn."""
    return "s:" + session_id


ANNOUNCED_PREFIX: Final = "a:"
"""How the key of a turn begins that is not recorded yet."""


def announced_key(session_id: str) -> str:
    """Key of the turn of a session that announced itself last."""
    return ANNOUNCED_PREFIX + session_id


def response_key(response_id: str, server: str) -> str:
    """Key of the turn that a response belongs to.

    Args:
        response_id: the id as the server sent it.
        server: the server's address. Servers that count (``chatcmpl-150``) give the same id to unrelated
            conversations, so an id that is not one of a kind counts for its own server only.
    """
    key = JUDGED.get(response_id)
    if key is None:
        key = _judge(response_id)
    # Begins otherwise, lest an id that holds an address be taken for another server's; an address has no blanks.
    return key or _bounded(SCOPED_PREFIX, f"{server} {response_id}")


_MOST_JUDGED: Final = 64

JUDGED: Final[dict[str, str]] = {}
"""What ``unscoped_key`` said of the last few ids: a call asks up to three times, and the turn that follows once more.

By hand: what ``lru_cache`` takes to keep one more is as much as half of a judgement. Whatever is asked about is an id
(``names.id_of``), so that what stands here need not be asked again whether it is one.
"""


def unscoped_key(response_id: str) -> str:
    """Key of the turn that a response belongs to, whoever sent it; empty if the id is not one of a kind."""
    key = JUDGED.get(response_id)
    return _judge(response_id) if key is None else key


def _judge(response_id: str) -> str:
    key = completion_key(response_id) if bits_of(response_id) >= UNIQUE_BITS else ""
    if len(JUDGED) >= _MOST_JUDGED:
        JUDGED.clear()
    JUDGED[response_id] = key
    return key


RESPONSE_PREFIX: Final = "r:"
"""How the key of an id begins that is one of a kind."""


def completion_key(id_: str) -> str:
    """Key of the turn that a chat completion belongs to; ``response_key`` asks for it if the id is one of a kind.

    Whether it is takes long to tell, and nobody is to ask for most of them: that of another is left in vain.
    """
    return RESPONSE_PREFIX + id_ if len(id_) <= MAX_KEY else _bounded(RESPONSE_PREFIX, id_)


def item_key(id_: str) -> str:
    """Key of the turn that an item or a tool call belongs to, by an id that is one of a kind."""
    return "i:" + id_ if len(id_) <= MAX_KEY else _bounded("i:", id_)


def call_key(id_: str, server: str, digest: str) -> str:
    """Key of the turn that a tool call belongs to, by an id that others may have, too.

    Args:
        id_: the id as the server sent it.
        server: the server's address.
        digest: that of the call's name and arguments: another call has another key.
    """
    return _bounded("i@", f"{server} {digest} {id_}")


def seen_call_key(id_: str, server: str) -> str:
    """Key of the turn that a tool call belongs to, by an id that others may have, too; known in this process alone."""
    return _bounded("i#", f"{PROCESS.token} {server} {id_}")


def cache_key(prompt_cache_key: object, server: str) -> str | None:
    """Key of the newest turn with a prompt cache key of the form that openai-agents makes; None of any other.

    That is the digest of what the application groups turns by there: the id of a conversation, of its SDK's session, of
    a trace's group; or a random number for a run that has none of them (openai-agents 0.24). It counts for its own
    server, since an application may call its sessions what another one does, too.

    Args:
        prompt_cache_key: what stands in a request.
        server: the server's address.
    """
    if type(prompt_cache_key) is not str or _OF_AGENTS_SDK.fullmatch(prompt_cache_key) is None:
        return None
    return f"{CACHE_PREFIX}{server} {prompt_cache_key}"


def conversation_key(conversation_id: str, server: str) -> str:
    """Key of the newest turn of a provider's conversation, for turns that do not name it."""
    return _bounded(CACHE_PREFIX, f"{server} ={conversation_id}")


def cache_keys_of_conversation(conversation_id: str, server: str) -> tuple[str, ...]:
    """Return the keys of the prompt cache keys that openai-agents makes of a conversation's id."""
    digest = hashlib.sha256(conversation_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return tuple(f"{CACHE_PREFIX}{server} agents-sdk:{kind}:{digest}" for kind in ("conversation", "session"))


def following_key(key: str, replies: int) -> str:
    """Key of the turn whose request ends with what ``key`` is of and some replies without ids behind it.

    Args:
        key: the key of an item or a tool call.
        replies: how many replies stand behind it, the turn's own included.
    """
    return f"n{replies}:{key}"


class _Process:
    """What tells this process from all others."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """A child is another process."""
        self.token = uuid.uuid4().hex


PROCESS: Final = _Process()


def history_key(digest: str) -> str:
    """Key of the turn whose reply is the last of a chat history.

    Args:
        digest: that of the messages up to the reply.
    """
    return "h:" + digest


def doubt_key(key: str) -> str:
    """Key that is known once turns of several sessions have left ``key``: then nobody can say whose turn it is."""
    return "h?" + key


def _bounded(prefix: str, rest: str) -> str:
    if len(rest) <= MAX_KEY:
        return prefix + rest
    # No id and no address begins with a line's end.
    return f"{prefix}\n{hashlib.sha256(rest.encode('utf-8', 'surrogatepass')).hexdigest()}"
