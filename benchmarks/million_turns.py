"""How much memory of a real Redis a million turns take, and how fast four processes write and read them.

python -m benchmarks.million_turns [--turns N] [--processes N] [--kinds chain,nested-chain,...]

Exit 1 if a key takes more than its budget at the worst moment, or a turn writes more keys than its own.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import redis_server, sessions
from benchmarks.redis_server import Size
from otel_llm_sessions.sessions.link import Record
from otel_llm_sessions.stores.shared import DEFAULT_TTL

if TYPE_CHECKING:
    import redis

BYTES_PER_KEY = 400
KEYS_PER_TURN = 3
REDIS_BYTES = 32 << 30
DAYS = DEFAULT_TTL / 86_400

TIMED_SHARE = 10  # one turn in so many is made beforehand, so that only writing it is timed
SAMPLED_KEYS = 1_000
SAMPLED_EVERY = 0.02
TIME_LIMIT = 30.0  # what is measured is Redis' size and pace, not our patience: 50 ms may pass on a busy machine


# What a process does: one function a phase.


class Done(NamedTuple):
    """What one process did of a phase, and when it began and ended."""

    operations: int
    keys: int
    most_keys: int
    begun: float
    ended: float


class _Process:
    kinds: Sequence[sessions.Session]
    url: str
    together: Any


def _enter(kinds: Sequence[sessions.Session], url: str, together: Any) -> None:
    _Process.kinds, _Process.url, _Process.together = kinds, url, together


def _store() -> Any:
    from otel_llm_sessions.stores.guarded import GuardedStore
    from otel_llm_sessions.stores.redis import RedisBackend

    store = GuardedStore(RedisBackend(_Process.url), time_limit=TIME_LIMIT)
    store.get_all(("connect",))
    return store


def _timed(operations: Sequence[Any], do: Callable[[Any], object]) -> tuple[float, float]:
    """Do all, beginning when all processes are ready."""
    _Process.together.wait()
    begun = time.monotonic()
    for operation in operations:
        do(operation)
    return begun, time.monotonic()


def _record(seed: int, count: int) -> Done:
    """Write turns; of the last of them also how fast."""
    store = _store()

    def put(record: Record) -> None:
        store.put(*record)

    turns = islice(sessions.turns(_Process.kinds, seed), count)
    keys = most = 0
    timed: list[Record] = []
    for number, record in enumerate(turns):
        keys, most = keys + len(record[0]), max(most, len(record[0]))
        if number < count - count // TIMED_SHARE:
            put(record)
        else:
            timed.append(record)
    begun, ended = _timed(timed, put)
    return Done(len(timed), keys, most, begun, ended)


def _look_up(seed: int, count: int) -> Done:
    """Ask for turns that were recorded, as the turn after each would."""
    store = _store()
    asked = [[keys[-1]] for keys, _ in islice(sessions.turns(_Process.kinds, seed), count)]
    found = 0

    def get(keys: list[str]) -> None:
        nonlocal found
        found += store.get_all(keys)[0] is not None

    begun, ended = _timed(asked, get)
    if found != len(asked):
        raise RuntimeError(f"{len(asked) - found} of {len(asked)} recorded turns were not found")
    return Done(len(asked), len(asked), 1, begun, ended)


def _claim(seed: int, count: int) -> Done:
    """Claim the root of each session's trace."""
    store = _store()
    roots = [
        f"root:{trace.trace_id:032x}:{trace.root_span_id:016x}"
        for _, link in islice(sessions.turns(_Process.kinds, seed), sessions.TURNS - 1, count, sessions.TURNS)
        if (trace := link.trace) is not None
    ]
    begun, ended = _timed(roots, store.claim)
    return Done(len(roots), len(roots), 1, begun, ended)


# What is measured of it.


@dataclass(slots=True)
class Phase:
    """What all processes did, and what it left in Redis."""

    done: list[Done]
    left: Size
    samples: list[Size] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Operations of all processes together, from the first one's start to the last one's end."""
        seconds = max(one.ended for one in self.done) - min(one.begun for one in self.done)
        return sum(one.operations for one in self.done) / seconds

    @property
    def worst(self) -> Size:
        """The moment of the second half at which a key took most memory: just after Redis doubled a table."""
        later = [size for size in [*self.samples, self.left] if size.keys >= self.left.keys / 2]
        return max(later, key=lambda size: size.per_key)


@dataclass(slots=True)
class Measured:
    """All that one run found out."""

    turns: int
    processes: int
    records: Phase
    look_ups: Phase
    claims: Phase
    value_bytes: float
    key_bytes: float
    """Of one key without its entry among those that expire and without the tables, by Redis' own account."""

    @property
    def written_per_turn(self) -> float:
        """Keys that a turn writes, on average."""
        return sum(one.keys for one in self.records.done) / self.turns

    @property
    def most_per_turn(self) -> int:
        """Keys that a turn writes, at most."""
        return max(one.most_keys for one in self.records.done)

    @property
    def met(self) -> bool:
        """Whether both budgets are kept."""
        return self.records.worst.per_key <= BYTES_PER_KEY and self.most_per_turn <= KEYS_PER_TURN

    @property
    def bytes_per_turn(self) -> float:
        """At the worst moment, with the turn's share of its session's claim."""
        kept = self.records.left.keys / self.turns
        claimed = self.claims.left.keys / self.turns
        return self.records.worst.per_key * kept + self.claims.worst.per_key * claimed


def measure(turns: int, processes: int, kinds: Sequence[str] = sessions.KINDS) -> Measured:
    """Write, read and claim, each from all processes at once, on a Redis of its own."""
    import redis

    context = multiprocessing.get_context("spawn")
    share = -(-turns // processes)
    shares = [min(share, turns - start) for start in range(0, turns, share)]
    together = context.Barrier(len(shares), timeout=600)
    with redis_server.running() as url, redis.Redis.from_url(url) as client:
        patterns = sessions.patterns()
        work = [patterns[kind] for kind in kinds], url, together
        with ProcessPoolExecutor(len(shares), context, _enter, work) as pool:
            records = _phase(client, pool, _record, shares)
            value_bytes, key_bytes = _sampled(client)
            look_ups = _phase(client, pool, _look_up, [count // TIMED_SHARE for count in shares])
            client.flushall()
            claims = _phase(client, pool, _claim, shares)
    return Measured(turns, len(shares), records, look_ups, claims, value_bytes, key_bytes)


def _phase(
    client: redis.Redis,
    pool: ProcessPoolExecutor,
    work: Callable[[int, int], Done],
    shares: Sequence[int],
) -> Phase:
    before = redis_server.size(client)
    with _samples(client) as samples:
        done = list(pool.map(work, range(len(shares)), shares))
    after = redis_server.size(client)
    return Phase(done, after.since(before), [sample.since(before) for sample in samples])


@contextlib.contextmanager
def _samples(client: redis.Redis) -> Iterator[list[Size]]:
    """Look at Redis' size again and again meanwhile."""
    samples: list[Size] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLED_EVERY):
            samples.append(redis_server.size(client))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield samples
    finally:
        over.set()
        looking.join()


def _sampled(client: redis.Redis) -> tuple[float, float]:
    """Return the mean length of a value, and what Redis says that a key and its value take, over some of them."""
    values, whole = [], []
    for _ in range(SAMPLED_KEYS):
        key = client.randomkey()
        both = client.pipeline()
        both.strlen(key)
        both.memory_usage(key)
        length, taken = both.execute()
        values.append(length)
        whole.append(taken)
    return statistics.mean(values), statistics.mean(whole)


# What is said about it.


def report(measured: Measured) -> str:
    """Return the figures as lines of text."""
    records, claims, worst = measured.records, measured.claims, measured.records.worst
    left, turns = records.left, measured.turns
    fit = REDIS_BYTES / measured.bytes_per_turn
    yes_no = {True: "yes", False: "NO"}
    lines = [
        ("turns recorded", f"{turns:,} in sessions of {sessions.TURNS}, from {measured.processes} processes"),
        ("keys written per turn", f"{measured.written_per_turn:.2f} on average, {measured.most_per_turn} at most"),
        ("keys kept", f"{left.keys:,}, {left.keys / turns:.3f} per turn"),
        ("bytes per key, all told", f"{left.per_key:.0f} (resident: {left.resident / left.keys:.0f})"),
        ("  of which record", f"{measured.value_bytes:.0f}"),
        ("  of which key and entry", f"{measured.key_bytes - measured.value_bytes:.0f}"),
        ("  of which expiry and tables", f"{left.per_key - measured.key_bytes:.0f}"),
        ("  at the worst moment", f"{worst.per_key:.0f}, at {worst.keys:,} keys"),
        ("bytes per turn", f"{left.used / turns:.0f}"),
        ("bytes per claim of a root", f"{claims.left.per_key:.0f}, {claims.worst.per_key:.0f} at worst; one a session"),
        ("a Redis of 32 GiB holds", f"{fit / 1e6:.0f} million turns at worst, claims included"),
        ("  that is, for 30 days", f"{fit / DAYS / 1e6:.1f} million turns a day, {fit / DEFAULT_TTL:.0f} a second"),
        ("records per second", f"{records.per_second:,.0f}"),
        ("look-ups per second", f"{measured.look_ups.per_second:,.0f}"),
        ("claims per second", f"{claims.per_second:,.0f}"),
        (f"at most {BYTES_PER_KEY} bytes per key", yes_no[worst.per_key <= BYTES_PER_KEY]),
        (f"at most {KEYS_PER_TURN} keys per turn", yes_no[measured.most_per_turn <= KEYS_PER_TURN]),
    ]
    width = max(len(title) for title, _ in lines)
    return "\n".join(f"{title.ljust(width)}  {value}" for title, value in lines)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million_turns", description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kinds", default=",".join(sessions.KINDS), help="of session, an equal share of each")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if not set(kinds) <= set(sessions.KINDS):
        parser.error(f"--kinds: there are {', '.join(sessions.KINDS)}")
    lacking = redis_server.missing()
    if lacking:
        raise SystemExit(f"{lacking}: nothing can be measured")
    measured = measure(options.turns, options.processes, kinds)
    print(report(measured))
    return 0 if measured.met else 1


if __name__ == "__main__":
    sys.exit(main())
