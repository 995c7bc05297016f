"""Opens the store that a URL names."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import DEFAULT_MAX_KEYS, MemoryStore
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.stores.shared import DEFAULT_TTL
from otel_llm_sessions.stores.urls import ALLOWED, redacted

SETTING = "OTEL_LLM_SESSIONS_STORE"

_DATABASE = r"/?|/[0-9]+", "the number of a database, and nothing else, follows the host and a slash"
_ONLY_DATABASE = r"/?|/0", "a cluster has no databases: nothing follows its hosts"
_PATHS = {
    "redis": _DATABASE,
    "rediss": _DATABASE,
    "valkey": _DATABASE,
    "valkeys": _DATABASE,
    "unix": (r"/.+", "the path of a socket follows unix://"),
    "redis+cluster": _ONLY_DATABASE,
    "rediss+cluster": _ONLY_DATABASE,
    "redis+sentinel": (
        r"/[^/]+(/[0-9]+)?",
        "the name of the master that the Sentinels watch follows their hosts and a slash",
    ),
}
"""What may follow the hosts in a URL of Redis, and what is said of anything else."""


class StoreSettingError(ValueError):
    """The setting of the store is wrong; the message names it, its value and what is allowed."""

    def __init__(self, url: object, why: str) -> None:
        super().__init__(f"{SETTING}={redacted(url)!r}: {why}. Allowed: {ALLOWED}")


class MissingExtraError(StoreSettingError, ImportError):
    """The store needs a package that is not installed."""


def open_store(url: str, *, ttl: float = DEFAULT_TTL, max_keys: int = DEFAULT_MAX_KEYS) -> SessionStore:
    """Return the store that ``url`` names. Nothing is connected or opened yet.

    Args:
        url: the kind of store and where it is.
        ttl: seconds until a session that no turn touches is forgotten (by shared stores).
        max_keys: how many keys this process remembers at most.

    Raises:
        StoreSettingError: ``url`` names no store (a ValueError).
        MissingExtraError: the package that the store needs is not installed (also an ImportError).
    """
    scheme, separator, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    opener = _OPENERS.get(scheme.lower()) if separator else None
    if opener is None:
        raise StoreSettingError(url, "not the URL of a store")
    return opener(url, ttl, max_keys)


def _memory(url: str, ttl: float, max_keys: int) -> SessionStore:
    if url.partition("://")[2] not in ("", "/"):
        raise StoreSettingError(url, "the store of this process's memory takes no address")
    return MemoryStore(max_keys)


def _sqlite(url: str, ttl: float, max_keys: int) -> SessionStore:
    try:
        from otel_llm_sessions.stores.sqlite import SqliteBackend
    except ImportError as error:
        raise MissingExtraError(url, "this Python was built without sqlite3") from error
    return GuardedStore(SqliteBackend(_sqlite_path(url), ttl=ttl), max_keys=max_keys, ttl=ttl)


def _sqlite_path(url: str) -> str:
    parts = _split(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or parts.query or parts.fragment:
        raise StoreSettingError(url, "a path of a file, and nothing else, follows sqlite:///")
    if path in ("", "/", ":memory:") or "\0" in path:
        raise StoreSettingError(url, "it names no file")
    return path


def _redis(url: str, ttl: float, max_keys: int) -> SessionStore:
    try:
        from otel_llm_sessions.stores.redis import RedisBackend
    except ImportError as error:
        raise MissingExtraError(url, "it needs redis-py 5 or newer: pip install 'redis>=5'") from error
    # redis-py (8.1) takes database 0 for a path that is no number, and database 12 for /1/2.
    allowed, why = _PATHS[url.partition("://")[0].lower()]
    if not re.fullmatch(allowed, _split(url).path):
        raise StoreSettingError(url, why)
    try:
        backend = RedisBackend(url, ttl=ttl)
    except Exception as error:  # redis-py's own words for what it cannot read
        raise StoreSettingError(url, f"redis-py cannot read it ({redacted(error)})") from None
    return GuardedStore(backend, max_keys=max_keys, ttl=ttl)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Several hosts, each with its port, only where there may be several.
        places = parts.netloc.rpartition("@")[2]
        for place in places.split(",") if "+" in parts.scheme else [places]:
            _ = urlsplit(f"//{place}").port
    except ValueError:
        # Python's own words would show what a password with special characters makes of the URL.
        raise StoreSettingError(url, "host and port cannot be read (characters of a password are %-encoded)") from None
    return parts


_OPENERS: dict[str, Callable[[str, float, int], SessionStore]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    **dict.fromkeys(_PATHS, _redis),
}
