"""The store of many machines: Redis or Valkey, through redis-py's connections, blocking and asyncio.

One round trip per operation, on connections that are kept: a blocking one per thread that is busy at the same time, an
asyncio one per task, of each event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from redis import connection as blocking
from redis.asyncio import connection as nonblocking
from redis.asyncio.retry import Retry as AsyncioRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.codec import KEY_PREFIX, RANK, VERSIONS_WITH_RANK, Row, decode, hashed, rows_of
from otel_llm_sessions.stores.patience import within
from otel_llm_sessions.stores.shared import (
    CONNECT_LIMIT,
    DEFAULT_TIME_LIMIT,
    DEFAULT_TTL,
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
        self._loops = _Loops(url)
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

    def withdraw(self, key: str, token: bytes) -> None:
        """Leave ``key`` to the next caller, if the claim with ``token`` is the one that got it."""
        name = hashed(key, b"claim")
        # Not in one step: only a claim with the same token could come between the two.
        if _check(self._run([("GET", name)]))[0] == token:
            _check(self._run([("DEL", name)]))

    def close(self) -> None:
        """Close what no one uses; an event loop's connections close with the loop."""
        self._connections.drop_idle()
        self._loops.drop()

    def after_fork_in_child(self) -> None:
        """Leave all connections to the parent."""
        forks.leave_to_parent(self._connections, self._loops)
        self._connections = self._connections.unconnected()
        self._loops = self._loops.unconnected()
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
            self.scope, _, self._incarnation = found.decode("ascii", "replace").partition(":")
        if known not in (None, self._incarnation) and self.on_emptied is not None:
            self.on_emptied()

    # How it is asked.

    def _run(self, commands: list[Command]) -> list[Any]:
        try:
            return self._connections.exchange(commands) if commands else []
        except (RedisError, OSError, FutureTimeout) as error:
            raise StoreDown(f"no answer from Redis: {_words(error, self._time_limit)}") from error

    async def _arun(self, commands: list[Command]) -> list[Any]:
        if not commands:
            return []
        try:
            return await within(self._time_limit, self._loops.exchange(commands))
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            raise StoreDown(f"no answer from Redis: {_words(error, self._time_limit)}") from error


def _set(row: Row, ttl_ms: int) -> Command:
    if row.is_mutable:
        return ("EVAL", _SET_UNLESS_LATER, 1, row.key, row.record, ttl_ms)
    return ("SET", row.key, row.record, "PX", ttl_ms)


def _check(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise StoreRefused(f"Redis refused: {reply}") from reply
    return replies


def _words(error: BaseException, time_limit: float) -> str:
    return str(error) or f"it took more than {time_limit * 1000:.0f} ms"


def _options(parsed: dict[str, Any], time_limit: float | None, base: type) -> dict[str, Any]:
    """Return what a connection is made with: the URL's options, under one limit and without needless round trips."""
    known = inspect.signature(base).parameters
    silent = {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    return {name: value for name, value in parsed.items() if name not in _POOL_OPTIONS} | {
        "socket_timeout": time_limit,
        "socket_connect_timeout": None if time_limit is None else CONNECT_LIMIT,
        "health_check_interval": 0,
        "protocol": 2,
        "decode_responses": False,
        "retry_on_timeout": False,
        **silent,
    }


class _Connections:
    """The blocking connections of one process."""

    def __init__(self, url: str, time_limit: float) -> None:
        self._url = url
        self._time_limit = time_limit
        parsed: dict[str, Any] = blocking.parse_url(url)  # type: ignore[no-untyped-call]
        self._class: Any = parsed.get("connection_class", blocking.Connection)
        self._options = _options(parsed, time_limit, blocking.AbstractConnection)
        self._idle: deque[Any] = deque()
        self._new()  # an option that redis-py does not know is an error now, not at the first call

    def unconnected(self) -> _Connections:
        """Return the same without any connection."""
        return _Connections(self._url, self._time_limit)

    def exchange(self, commands: list[Command]) -> list[Any]:
        """Send ``commands`` at once and return their replies, errors among them, within the time limit."""
        deadline = time.monotonic() + self._time_limit
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
        except BaseException:
            connection.disconnect()
            raise
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


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal


class _Loops:
    """The asyncio connections of one process: those of each event loop for itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        parsed = nonblocking.parse_url(url)
        self._class: Any = parsed.get("connection_class", nonblocking.Connection)
        # The caller bounds the whole exchange; a limit for each step would cost a task for each.
        self._options = _options(dict(parsed), None, nonblocking.AbstractConnection)
        self._of_loop: dict[asyncio.AbstractEventLoop, _LoopConnections] = {}
        self._lock = threading.Lock()

    def unconnected(self) -> _Loops:
        """Return the same without any connection."""
        return _Loops(self._url)

    async def exchange(self, commands: list[Command]) -> list[Any]:
        """Send ``commands`` at once and return their replies, errors among them."""
        loop = asyncio.get_running_loop()
        kept = self._of_loop.get(loop) or await self._begin(loop)
        if kept.idle:
            try:
                return await _aexchange_on(kept.idle.pop(), kept.idle, commands)
            except RedisConnectionError:
                # As above: what became of an idle connection says nothing about how Redis is now.
                await kept.drop_idle()
        while not kept.idle:  # another task may take what this one made
            await kept.connect(self._new())
        return await _aexchange_on(kept.idle.pop(), kept.idle, commands)

    def drop(self) -> None:
        """Have each loop close its connections."""
        with self._lock:
            kept, self._of_loop = self._of_loop, {}
        for loop, connections in kept.items():
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(connections.drop_idle(), loop)

    def _new(self) -> Any:
        return self._class(**self._options, retry=AsyncioRetry(NoBackoff(), 0))

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> _LoopConnections:
        kept = _LoopConnections()
        await kept.close_with_loop()
        with self._lock:
            for closed in [known for known in self._of_loop if known.is_closed()]:
                del self._of_loop[closed]
            self._of_loop[loop] = kept
        return kept


class _LoopConnections:
    """The connections of one event loop, closed when the loop shuts its asynchronous generators down."""

    def __init__(self) -> None:
        self.idle: deque[Any] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._closer = self._closed_at_the_end()

    async def close_with_loop(self) -> None:
        """Have the running loop close what is idle when it ends, as asyncio.run does."""
        await self._closer.__anext__()

    async def connect(self, connection: Any) -> None:
        """Make ``connection`` and put it with what is idle; goes on when its caller waits no longer."""
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connected)
        await asyncio.shield(task)

    async def _connect(self, connection: Any) -> None:
        try:
            await within(CONNECT_LIMIT, connection.connect())
        except BaseException:
            await _hang_up(connection)
            raise
        self.idle.append(connection)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that waits raises it; one that is gone cannot

    async def drop_idle(self) -> None:
        """Close the connections that no task uses."""
        while self.idle:
            await _hang_up(self.idle.pop())

    async def _closed_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.drop_idle()
            await asyncio.sleep(0)  # in which the transports close


async def _hang_up(connection: Any) -> None:
    """Close ``connection`` at once, without a last exchange: over TLS there would be one, for which a loop may end."""
    writer = getattr(connection, "_writer", None)
    await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


async def _aexchange_on(connection: Any, idle: deque[Any], commands: list[Command]) -> list[Any]:
    try:
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = [await _areply(connection) for _ in commands]
    except BaseException:
        await _hang_up(connection)
        raise
    if len(idle) < _MAX_IDLE:
        idle.append(connection)
    else:
        await _hang_up(connection)
    return replies


async def _areply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
