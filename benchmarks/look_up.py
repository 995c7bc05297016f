"""What a blocking look-up costs over a round trip of redis-py's own connection, both in the same run, by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from benchmarks import sessions

LOOK_UPS = 3_000
WARM = 200


class Times(NamedTuple):
    """How long something took, each time, in seconds."""

    bare: Sequence[float]
    """redis-py's ``Connection``: a command sent, its reply read."""
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.bare)

    @property
    def later(self) -> float:
        """By how many milliseconds the slowest in a hundred is slower."""
        return 1e3 * (statistics.quantiles(self.ours, n=100)[-1] - statistics.quantiles(self.bare, n=100)[-1])


class LookUps(NamedTuple):
    """Look-ups of turns that another process has recorded, and of turns that nobody knows."""

    hits: Times
    misses: Times


def measure(url: str, number: int = LOOK_UPS) -> LookUps:
    """Return how long look-ups took in the Redis at ``url``, which is to be empty."""
    from redis.connection import Connection, parse_url

    from otel_llm_sessions.stores.codec import hashed
    from otel_llm_sessions.stores.opening import open_store

    keys = _recorded(url, number + WARM)
    connection: Any = Connection(**parse_url(url))  # type: ignore[no-untyped-call]
    connection.connect()
    store = open_store(url)
    store.get_all(("connect",))

    def bare(key: str) -> object:
        connection.send_command("GET", hashed(key))
        return connection.read_response()

    def ours(key: str) -> object:
        return store.get_all((key,))[0]

    try:
        hits = _times(bare, ours, keys, is_known=True)
        return LookUps(hits, _times(bare, ours, [f"{key}?" for key in keys], is_known=False))
    finally:
        store.close()
        connection.disconnect()


def _recorded(url: str, number: int) -> list[str]:
    """Record turns as another process would, and return a key of each."""
    from otel_llm_sessions.stores.opening import open_store

    store, patterns = open_store(url), sessions.patterns()
    turns = list(islice(sessions.turns([patterns[kind] for kind in sessions.KINDS], 0), number))
    for keys, link in turns:
        store.put(keys, link)
    store.close()
    return [keys[-1] for keys, _ in turns]


def _times(
    bare: Callable[[str], object], ours: Callable[[str], object], keys: Sequence[str], *, is_known: bool
) -> Times:
    took = [(_time(bare, key, is_known), _time(ours, key, is_known)) for key in keys]
    return Times(*zip(*took[WARM:], strict=True))


def _time(look_up: Callable[[str], object], key: str, is_known: bool) -> float:
    begun = time.perf_counter()
    found = look_up(key)
    seconds = time.perf_counter() - begun
    if (found is not None) != is_known:
        raise RuntimeError(f"{key} was {'not ' if is_known else ''}found")
    return seconds
