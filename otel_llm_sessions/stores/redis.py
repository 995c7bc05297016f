"""The store of many machines: what is asked, as commands of Redis or Valkey, and what their replies say."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from otel_llm_sessions.guard import is_applications
from otel_llm_sessions.stores.codec import KEY_PREFIX, RANK, VERSIONS_WITH_RANK, Row, decode, hashed, rows_of
from otel_llm_sessions.stores.redis_lines import PART_IS_DOWN, Command, Line, line_to
from otel_llm_sessions.stores.shared import (
    DEFAULT_TTL,
    MAX_SCOPE,
    Ask,
    Backend,
    Claim,
    Lookup,
    Put,
    StoreDown,
    StoreRefused,
)

FAULTS = (RedisError, RedisClusterException, OSError)
"""What redis-py raises; the second, of a cluster of which no server answers, is none of the first (8.1)."""

SCOPE_KEY = KEY_PREFIX + b"scope"
"""Holds the scope and, after a colon, the incarnation: another one after Redis lost what it held."""

_SCOPE_IS_SURE = 1.0
"""Seconds after which a connection is asked for the scope again: Redis may be emptied without being restarted."""

# Byte by byte: Lua compares strings as the server's locale has it.
_SET_UNLESS_LATER = f"""
local old = redis.call('GET', KEYS[1])
local version = old and old:byte(1) or 0
if version >= {VERSIONS_WITH_RANK.start} and version < {VERSIONS_WITH_RANK.stop} then
  for at = {RANK.start + 1}, {RANK.stop} do
    local was, is = old:byte(at) or 0, ARGV[1]:byte(at)
    if is > was then break end
    if is < was then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_DELETE_IF = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisBackend(Backend):
    """Keeps links in Redis; one round trip for whatever is asked."""

    name = "redis"

    def __init__(self, url: str, *, ttl: float = DEFAULT_TTL) -> None:
        """Args: where Redis is, seconds until an entry expires.

        Raises:
            ValueError: ``url`` is not a URL of Redis.
        """
        self._begin(line_to(url), ttl)
        self.scope = uuid.uuid4().hex

    def _begin(self, line: Line, ttl: float) -> None:
        self._line = line
        self._ttl = ttl
        self._ttl_ms = max(1, round(ttl * 1000))
        self._incarnation: str | None = None
        self._is_emptied = False
        self._scope_is_due = 0.0
        self.keeps_limits = line.keeps_limits

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._line.is_open

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        """Do all that is asked in one pipeline."""
        was_open = seconds is None and self._line.is_open
        try:
            return self._serve(asks, seconds)
        except RedisConnectionError as error:
            # Redis was restarted, or dropped what was idle: that says nothing about how it is now.
            if not was_open or is_applications(error):
                raise self._fault(error) from error
        except FAULTS as error:
            raise self._fault(error) from error
        try:
            return self._serve(asks, seconds)
        except FAULTS as error:
            raise self._fault(error) from error

    def was_emptied(self) -> bool:
        """Whether Redis has lost what it held since this was asked last."""
        was_emptied, self._is_emptied = self._is_emptied, False
        return was_emptied

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    def anew(self) -> RedisBackend:
        """Return the same with no connection."""
        other = RedisBackend.__new__(RedisBackend)
        other._begin(self._line.anew(), self._ttl)
        other.scope, other._incarnation = self.scope, self._incarnation
        return other

    def in_child(self) -> RedisBackend:
        """Return the same with no connection; one that never answered is another process's own."""
        other = self.anew()
        if self._incarnation is None:
            other.scope = uuid.uuid4().hex
        return other

    def _serve(self, asks: Sequence[Ask], seconds: float | None) -> list[Any]:
        greeting = self._greeting()
        if len(asks) == 1 and not greeting:
            return [_outcome(asks[0], self._line.exchange(self._commands(asks[0]), seconds))]
        each = [self._commands(ask) for ask in asks]
        replies = iter(self._line.exchange(greeting + [command for commands in each for command in commands], seconds))
        if greeting:
            self._learn_scope(list(islice(replies, len(greeting)))[-1])
        return [_outcome(ask, list(islice(replies, len(commands)))) for ask, commands in zip(asks, each, strict=True)]

    def _greeting(self) -> list[Command]:
        """Return what asks for the scope, once per connection and from time to time."""
        if self._line.is_open and time.monotonic() < self._scope_is_due:
            return []
        proposed = f"{self.scope}:{uuid.uuid4().hex}"
        return [("SET", SCOPE_KEY, proposed, "NX"), ("GET", SCOPE_KEY)]

    def _learn_scope(self, found: Any) -> None:
        """Take over the scope that all share, and notice when it is no longer the Redis that it was."""
        if isinstance(found, PART_IS_DOWN):
            return
        known, self._incarnation = self._incarnation, None
        self._scope_is_due = time.monotonic() + _SCOPE_IS_SURE
        if isinstance(found, bytes):
            self.scope, _, self._incarnation = found[:MAX_SCOPE].decode("ascii", "replace").partition(":")
        if known not in (None, self._incarnation):
            self._is_emptied = True

    def _commands(self, ask: Ask) -> list[Command]:
        if isinstance(ask, Lookup):
            return [("GET", hashed(key)) for key in ask.keys]
        if isinstance(ask, Put):
            return [self._set(row) for row in rows_of(ask.entries)]
        name = hashed(ask.key, b"claim")
        if isinstance(ask, Claim):
            # The token tells one's own claim from another's also when it is sent twice, over a connection that broke.
            return [("SET", name, ask.token, "NX", "PX", self._ttl_ms), ("GET", name)]
        return [("EVAL", _DELETE_IF, 1, name, ask.token)]

    def _set(self, row: Row) -> Command:
        if row.is_mutable:
            return ("EVAL", _SET_UNLESS_LATER, 1, row.key, row.record, self._ttl_ms)
        return ("SET", row.key, row.record, "PX", self._ttl_ms)

    def _fault(self, error: Exception) -> Exception:
        """Return what redis-py raised as a fault of the store, or as it is: a signal handler's may be of any kind."""
        if is_applications(error):
            return error
        return StoreDown(f"no answer from Redis: {error or 'not in time'}")


def _outcome(ask: Ask, replies: list[Any]) -> Any:
    for reply in replies:
        if isinstance(reply, Exception):
            return _fault_of(reply)
    if isinstance(ask, Lookup):
        return [decode(reply) for reply in replies]
    return replies[-1] == ask.token if isinstance(ask, Claim) else None


def _fault_of(reply: Exception) -> Exception:
    if isinstance(reply, PART_IS_DOWN):
        return StoreDown(f"no answer from a part of Redis: {reply}")
    return StoreRefused(f"Redis refused: {reply}")
