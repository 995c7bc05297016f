"""The store of many machines: Redis or Valkey, through redis-py's connections.

One round trip per operation, on connections that are kept. A blocking caller makes its own, on a connection per thread
that is busy at the same time; what the tasks of event loops ask goes through the keeper's thread, all that waits at
once. So nothing here belongs to a loop, which may be closed in any way.
"""

from __future__ import annotations

import inspect
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import islice
from typing import Any

from redis import connection as blocking
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from otel_llm_sessions import forks
from otel_llm_sessions.guard import is_applications
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.answer import Answer, Late
from otel_llm_sessions.stores.codec import KEY_PREFIX, RANK, VERSIONS_WITH_RANK, Row, decode, hashed, rows_of
from otel_llm_sessions.stores.keeper import Keeper
from otel_llm_sessions.stores.shared import (
    CONNECT_LIMIT,
    DEFAULT_TIME_LIMIT,
    DEFAULT_TTL,
    MAX_SCOPE,
    Entry,
    SharedStore,
    StoreDown,
    StoreRefused,
)

SCOPE_KEY = KEY_PREFIX + b"scope"
"""Holds the scope and, after a colon, the incarnation: another one after Redis lost what it held."""

_MAX_IDLE = 16
_POOL_OPTIONS = frozenset({"connection_class", "max_connections", "timeout", "retry", "retry_on_error"})

Command = tuple[Any, ...]

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


class RedisStore(SharedStore):
    """Keeps links in Redis; thread-safe, fork-safe, usable from any number of event loops."""

    def __init__(self, url: str, *, ttl: float = DEFAULT_TTL, time_limit: float = DEFAULT_TIME_LIMIT) -> None:
        """Args: where Redis is, seconds until an entry expires, seconds an operation may take.

        Raises:
            ValueError: ``url`` is not a URL of Redis.
        """
        self.scope = uuid.uuid4().hex
        self._incarnation: str | None = None
        self._ttl_ms = max(1, round(ttl * 1000))
        self._time_limit = time_limit
        self._connections = _Connections(url, time_limit)
        self._keeper = self._new_keeper()
        forks.renew_in_child(self)

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return the link of each of ``keys``, in order, None where it is unknown; one MGET."""
        return self._links(self._run(self._lookup(keys)))

    def put_all(self, entries: Sequence[Entry]) -> None:
        """Remember each entry; one pipeline of SETs."""
        self._recorded(self._run(self._record(entries)))

    def claim(self, key: str, token: bytes | None = None) -> bool:
        """Return True to exactly one of all callers that claim ``key``; SET NX and GET in one pipeline."""
        token = token or uuid.uuid4().bytes
        return bool(_check(self._run(self._claim(key, token)))[1] == token)

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        return self._links(await self._arun(self._lookup(keys)))

    async def aput_all(self, entries: Sequence[Entry]) -> None:
        """As ``put_all``, for callers on an event loop."""
        self._recorded(await self._arun(self._record(entries)))

    async def aclaim(self, key: str, token: bytes | None = None) -> bool:
        """As ``claim``, for callers on an event loop."""
        token = token or uuid.uuid4().bytes
        return bool(_check(await self._arun(self._claim(key, token)))[1] == token)

    def ask(self, keys: Sequence[str]) -> Answer[list[SessionLink | None]]:
        """As ``get_all``, beside the caller."""
        return self._begin(self._lookup(keys)).then(lambda replies: self._links(self._settled(replies)))

    def ask_claim(self, key: str, token: bytes) -> Answer[bool]:
        """As ``claim``, beside the caller."""
        return self._begin(self._claim(key, token)).then(lambda replies: _check(self._settled(replies))[1] == token)

    def withdraw(self, key: str, token: bytes) -> None:
        """Leave ``key`` to the next caller, if the claim with ``token`` is the one that got it."""
        name = hashed(key, b"claim")
        # Not in one step: only a claim with the same token could come between the two.
        if _check(self._run([("GET", name)]))[0] == token:
            _check(self._run([("DEL", name)]))

    def close(self) -> None:
        """Close what no one uses."""
        self._keeper.stop(self._time_limit)
        self._connections.drop_idle()

    def after_fork_in_child(self) -> None:
        """Leave all connections to the parent."""
        forks.leave_to_parent(self._connections, self._keeper)
        self._connections = self._connections.unconnected()
        self._keeper = self._new_keeper()
        if self._incarnation is None:
            self.scope = uuid.uuid4().hex

    # What is asked: pure, the same for blocking and asyncio callers.

    def _lookup(self, keys: Sequence[str]) -> list[Command]:
        mget = ("MGET", SCOPE_KEY, *map(hashed, keys))
        if self._incarnation is not None:
            return [mget]
        return [("SET", SCOPE_KEY, f"{self.scope}:{uuid.uuid4().hex}", "NX"), mget]

    def _record(self, entries: Sequence[Entry]) -> list[Command]:
        # Who only writes has to notice, too, that Redis lost what it held.
        sets = [_set(row, self._ttl_ms) for row in rows_of(entries)]
        return sets + self._lookup(()) if sets else []

    def _claim(self, key: str, token: bytes) -> list[Command]:
        # The token tells one's own claim from another's also when it is sent twice, over a connection that broke.
        name = hashed(key, b"claim")
        return [("SET", name, token, "NX", "PX", self._ttl_ms), ("GET", name)]

    def _links(self, replies: list[Any]) -> list[SessionLink | None]:
        scope, *values = _check(replies[-1:])[0]
        self._learn_scope(scope)
        return [decode(value) for value in values]

    def _recorded(self, replies: list[Any]) -> None:
        if replies:
            self._links(_check(replies))

    def _learn_scope(self, found: bytes | None) -> None:
        """Take over the scope that all share, and notice when it is no longer the Redis that it was."""
        known, self._incarnation = self._incarnation, None
        if found is not None:
            self.scope, _, self._incarnation = found[:MAX_SCOPE].decode("ascii", "replace").partition(":")
        if known not in (None, self._incarnation) and self.on_emptied is not None:
            self.on_emptied()

    # How it is asked.

    def _run(self, commands: list[Command]) -> list[Any]:
        try:
            return self._connections.exchange(commands) if commands else []
        except (RedisError, OSError, FutureTimeout) as error:
            if is_applications(error):  # a signal handler's, which may be of any kind
                raise
            raise self._fault(error) from error

    async def _arun(self, commands: list[Command]) -> list[Any]:
        if not commands:
            return []
        try:
            replies: list[Any] = await self._keeper.ask_on_loop(commands, self._time_limit)
            return replies
        except (RedisError, OSError, FutureTimeout, Late) as error:
            raise self._fault(error) from error

    def _begin(self, commands: list[Command]) -> Answer[list[Any]]:
        try:
            return self._keeper.begin(commands)
        except StoreDown as fault:
            refused: Answer[list[Any]] = Answer()
            refused.fail(fault)
            return refused

    def _settled(self, replies: Answer[list[Any]]) -> list[Any]:
        try:
            return replies.result()
        except (RedisError, OSError, FutureTimeout) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> StoreDown:
        words = str(error) or f"it took more than {self._time_limit * 1000:.0f} ms"
        return StoreDown(f"no answer from Redis: {words}")

    def _new_keeper(self) -> Keeper[list[Command]]:
        return Keeper("redis-loops", lambda: _Pipeline(self._connections))


def _set(row: Row, ttl_ms: int) -> Command:
    if row.is_mutable:
        return ("EVAL", _SET_UNLESS_LATER, 1, row.key, row.record, ttl_ms)
    return ("SET", row.key, row.record, "PX", ttl_ms)


def _check(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise StoreRefused(f"Redis refused: {reply}") from reply
    return replies


def _options(parsed: dict[str, Any], time_limit: float) -> dict[str, Any]:
    """Return what a connection is made with: the URL's options, under one limit and without needless round trips."""
    known = inspect.signature(blocking.AbstractConnection).parameters
    silent = {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    return {name: value for name, value in parsed.items() if name not in _POOL_OPTIONS} | {
        "socket_timeout": time_limit,
        "socket_connect_timeout": CONNECT_LIMIT,
        "health_check_interval": 0,
        "protocol": 2,
        "decode_responses": False,
        "retry_on_timeout": False,
        **silent,
    }


class _Pipeline:
    """What the keeper's thread does with the connections: all that is asked in one exchange."""

    def __init__(self, connections: _Connections) -> None:
        self._connections = connections

    def serve(self, asked: Sequence[list[Command]]) -> Iterator[Any]:
        """Yield the replies to each list of commands."""
        replies = iter(self._connections.exchange([command for commands in asked for command in commands]))
        for commands in asked:
            yield list(islice(replies, len(commands)))

    def pause(self, seconds: float) -> bool:
        """Do nothing: a child process leaves the connections alone."""
        return True

    def go_on(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: the store closes its connections."""


class _Connections:
    """The connections of one process."""

    def __init__(self, url: str, time_limit: float) -> None:
        self._url = url
        self._time_limit = time_limit
        parsed: dict[str, Any] = blocking.parse_url(url)  # type: ignore[no-untyped-call]
        self._class: Any = parsed.get("connection_class", blocking.Connection)
        self._options = _options(parsed, time_limit)
        self._idle: deque[Any] = deque()
        self._kind: object = threading.Lock
        self._new()  # an option that redis-py does not know is an error now, not at the first call

    def unconnected(self) -> _Connections:
        """Return the same without any connection."""
        return _Connections(self._url, self._time_limit)

    def exchange(self, commands: list[Command]) -> list[Any]:
        """Send ``commands`` at once and return their replies, errors among them, within the time limit."""
        deadline = time.monotonic() + self._time_limit
        if (
            self._kind is not threading.Lock
        ):  # patched by gevent or eventlet: a socket from before holds up all greenlets
            self._kind = threading.Lock
            self.drop_idle()
        connection = self._take()
        if connection is None:
            return self._exchange_on_new(commands, deadline)
        try:
            return self._exchange_on(connection, commands)
        except RedisConnectionError:
            # Redis was restarted, or dropped what was idle: that says nothing about how it is now.
            self.drop_idle()
            return self._exchange_on_new(commands, deadline)

    def drop_idle(self) -> None:
        """Close the connections that no one uses."""
        while (connection := self._take()) is not None:
            connection.disconnect()

    def _new(self) -> Any:
        return self._class(**self._options, retry=Retry(NoBackoff(), 0))

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _exchange_on(self, connection: Any, commands: list[Command]) -> list[Any]:
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies = [_reply(connection) for _ in commands]
        except BaseException as error:
            connection.disconnect()
            raised = _before_redis(error)
            if raised is error:
                raise
            raise raised  # noqa: B904  # it was first
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return replies

    def _exchange_on_new(self, commands: list[Command], deadline: float) -> list[Any]:
        """As ``exchange``, on a new connection: made in a thread, for no time-out bounds the look-up of a host name."""
        future: Future[list[Any]] = Future()
        thread = threading.Thread(
            target=self._connect_into, args=(future, commands), name="otel-llm-sessions-redis", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
            # At the end of the interpreter no thread may start (Python 3.12); what waits is written all the same.
            self._connect_into(future, commands)
        return future.result(max(0.0, deadline - time.monotonic()))

    def _connect_into(self, future: Future[list[Any]], commands: list[Command]) -> None:
        try:
            connection = self._new()
            connection.connect()
            future.set_result(self._exchange_on(connection, commands))
        except BaseException as error:
            future.set_exception(error)


def _before_redis(error: BaseException) -> BaseException:
    """Return what was raised amid an exchange: redis-py (8.1) makes an error of its own of any OSError.

    A signal handler may raise one, such as TimeoutError. What the application was handling before the exchange does
    not count, though Python says of it, too, that the error came up meanwhile.
    """
    raised: BaseException | None = error
    while raised is not None and raised.__traceback__ is not None:
        if is_applications(raised):
            return raised
        raised = raised.__context__
        if raised is None or not _is_caught_by_redis(raised):
            return error
    return error


def _is_caught_by_redis(error: BaseException) -> bool:
    traceback = error.__traceback__
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith("redis.")


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal
