"""The ways to Redis: one server, the master that Sentinels name, a cluster. All through redis-py's own clients."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis import connection as blocking
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    MovedError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from otel_llm_sessions.guard import is_applications
from otel_llm_sessions.stores.shared import PATIENCE

Command = tuple[Any, ...]

PART_IS_DOWN = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterDownError,
    ClusterError,
    RedisClusterException,
    MasterDownError,
    MovedError,
    AskError,
    TryAgainError,
)
"""What a reply of a cluster may be where one of its servers does not answer, or is no longer the one to ask."""

_POOL_OPTIONS = frozenset({"connection_class", "max_connections", "timeout", "retry", "retry_on_error"})


class Line(ABC):
    """A way to Redis, for one thread at a time."""

    keeps_limits: bool
    """Whether ``exchange`` can be told how long it may take."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there is a connection."""

    @abstractmethod
    def exchange(self, commands: list[Command], seconds: float | None) -> list[Any]:
        """Send ``commands`` at once and return their replies, errors among them.

        Raises:
            redis.exceptions.RedisError, OSError: there was no answer, or not in ``seconds``; the connection is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the next exchange opens it again."""

    @abstractmethod
    def anew(self) -> Line:
        """Return the same with no connection."""


class OneConnection(Line):
    """A connection to one server."""

    # redis-py 8 and newer; not its can_read, which takes what a signal's handler raises for the end of the time.
    keeps_limits = "timeout" in inspect.signature(blocking.Connection.read_response).parameters

    def __init__(self, make: Callable[[], Callable[[], Any]]) -> None:
        """Args: returns what makes a new connection, which is not connected yet."""
        self._make_maker = make
        self._new: Callable[[], Any] | None = None
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def exchange(self, commands: list[Command], seconds: float | None) -> list[Any]:
        """Send ``commands`` in one packet, and wait for all replies."""
        try:
            if self._connection is None:
                if self._new is None:  # not when it is made: that may be amid a fork
                    self._new = self._make_maker()
                connection = self._new()
                connection.connect()
                self._connection = connection
            connection = self._connection
            connection.send_packed_command((_packed(commands),), check_health=False)
            return [_reply(connection, seconds) for _ in commands]
        except BaseException as error:
            self.close()
            raised = _before_redis(error)
            if raised is error:
                raise
            raise raised  # noqa: B904  # it was first

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def anew(self) -> OneConnection:
        """Return the same with no connection."""
        return OneConnection(self._make_maker)


class Cluster(Line):
    """A cluster: what is asked goes out as one pipeline for each of its servers."""

    keeps_limits = False  # redis-py follows a slot from server to server, and asks anew where they are

    def __init__(self, nodes: list[tuple[str, int]], options: dict[str, Any]) -> None:
        """Args: servers of the cluster, of which one must answer; what connections are made with."""
        self._nodes = nodes
        self._options = options
        self._cluster: Any = None

    @property
    def is_open(self) -> bool:
        """Whether it is known which server has what."""
        return self._cluster is not None

    def exchange(self, commands: list[Command], seconds: float | None) -> list[Any]:
        """Send ``commands`` to their servers, and wait for all replies."""
        if self._cluster is None:
            node: Any = ClusterNode
            nodes = [node(host, port) for host, port in self._nodes]
            self._cluster = RedisCluster(startup_nodes=nodes, **self._options)
        if len(commands) == 1:
            return [self._one(commands[0])]
        try:
            return self._together(commands)
        except PART_IS_DOWN:
            return self._node_by_node(commands)

    def _one(self, command: Command) -> Any:
        try:
            return self._cluster.execute_command(*command)
        except (ResponseError, *PART_IS_DOWN) as fault:
            return fault

    def _together(self, commands: list[Command]) -> list[Any]:
        pipeline = self._cluster.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))

    def _node_by_node(self, commands: list[Command]) -> list[Any]:
        """As ``_together``, where a server does not answer: redis-py (8.1) then asks none of the others either."""
        replies: list[Any] = [None] * len(commands)
        places: dict[Any, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(self._node_of(command), []).append(place)
        for of_node in places.values():
            for place, reply in zip(of_node, self._of_one_node([commands[place] for place in of_node]), strict=True):
                replies[place] = reply
        if all(isinstance(reply, PART_IS_DOWN) for reply in replies):
            raise replies[0]
        return replies

    def _node_of(self, command: Command) -> Any:
        key = command[3] if command[0] == "EVAL" else command[1]
        return self._cluster.get_node_from_key(key)

    def _of_one_node(self, commands: list[Command]) -> list[Any]:
        try:
            return self._together(commands)
        except PART_IS_DOWN as fault:
            return [fault] * len(commands)

    def close(self) -> None:
        """Close all connections."""
        client, self._cluster = self._cluster, None
        if client is not None:
            client.close()

    def anew(self) -> Cluster:
        """Return the same with no connection."""
        return Cluster(self._nodes, self._options)


def line_to(url: str) -> Line:
    """Return the way to the Redis that ``url`` names; nothing is connected yet.

    Raises:
        ValueError: it names none.
    """
    scheme, separator, rest = url.partition("://")
    kind = _KINDS.get(scheme.lower())
    if kind is None or not separator:
        raise ValueError("not a scheme of Redis")
    plain, line = kind
    return line(f"{plain}://{rest}")


def _one_server(url: str) -> Line:
    parsed: dict[str, Any] = blocking.parse_url(url)  # type: ignore[no-untyped-call]
    made: Any = parsed.pop("connection_class", blocking.Connection)
    options = _options(parsed)

    def maker() -> Callable[[], Any]:
        return lambda: made(**options, retry=Retry(NoBackoff(), 0))

    maker()()  # an option that redis-py does not know is an error now, not at the first call
    return OneConnection(maker)


def _master(url: str) -> Line:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the master follows the Sentinels' hosts and a slash")
    hosts = _hosts(parts, 26379)
    options = _options(_options_of(parts) | ({"db": int(database)} if database else {}))

    def maker() -> Callable[[], Any]:
        limits: dict[str, Any] = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        limits["retry"] = Retry(NoBackoff(), 0)  # the next one is asked: redis-py (8.1) tries each for 20 s
        sentinels = Sentinel(hosts, sentinel_kwargs=limits)  # type: ignore[no-untyped-call]
        pooled: Any = SentinelConnectionPool
        pool = pooled(service, sentinels, **options, retry=Retry(NoBackoff(), 0))
        return pool.make_connection  # type: ignore[no-any-return]

    return OneConnection(maker)


def _cluster(url: str) -> Line:
    parts = urlsplit(url)
    if parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has one database")
    options = _options(_options_of(parts)) | {"retry": Retry(NoBackoff(), 1)}
    del options["retry_on_timeout"]  # of which a client (redis-py 6) warns
    if parts.scheme == "rediss":
        options["ssl"] = True
    return Cluster(_hosts(parts, 6379), options)


_KINDS: dict[str, tuple[str, Callable[[str], Line]]] = {
    "redis": ("redis", _one_server),
    "rediss": ("rediss", _one_server),
    "valkey": ("redis", _one_server),
    "valkeys": ("rediss", _one_server),
    "unix": ("unix", _one_server),
    "redis+sentinel": ("redis", _master),
    "redis+cluster": ("redis", _cluster),
    "rediss+cluster": ("rediss", _cluster),
}
"""What each scheme is to redis-py's reader of URLs, and the way that it names."""


def _hosts(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    hosts = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place}")
        if not one.hostname:
            raise ValueError("hosts are separated by commas")
        hosts.append((one.hostname, one.port or port))
    return hosts


def _options_of(parts: SplitResult) -> dict[str, Any]:
    """Return user, password and options of a URL of several hosts, read as redis-py reads them for one."""
    credentials, at, _ = parts.netloc.rpartition("@")
    url = f"{parts.scheme}://{credentials}{at}host/?{parts.query}"
    parsed: dict[str, Any] = blocking.parse_url(url)  # type: ignore[no-untyped-call]
    return {name: value for name, value in parsed.items() if name not in ("host", "port", "connection_class")}


def _options(parsed: dict[str, Any]) -> dict[str, Any]:
    """Return what a connection is made with: the URL's options, under one limit and without needless round trips."""
    known = inspect.signature(blocking.AbstractConnection).parameters
    silent = {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    return {name: value for name, value in parsed.items() if name not in _POOL_OPTIONS} | {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "health_check_interval": 0,
        "protocol": 2,
        "decode_responses": False,
        "retry_on_timeout": False,
        **silent,
    }


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


def _packed(commands: list[Command]) -> bytes:
    """Return commands as they are sent; redis-py (8.1) takes a tenth of a round trip for each."""
    out = []
    for command in commands:
        if command[0] == "GET":  # most of them are look-ups
            out.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(command[1]), command[1]))
            continue
        out.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


def _reply(connection: Any, seconds: float | None) -> Any:
    try:
        if seconds is None:
            return connection.read_response(disable_decoding=True)
        return connection.read_response(disable_decoding=True, timeout=seconds)
    except ResponseError as refusal:
        return refusal
