"""CPU time, the second opinion: all variants take turns in one process, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.client import make_client
from benchmarks.variants import VARIANTS
from benchmarks.works import Work

ROUNDS = 30
CALLS = 16
CHUNKS = 200

Costs = dict[tuple[str, str], float]


def measure(works: Sequence[Work], variants: Sequence[str], progress: Callable[[str], None]) -> Costs:
    """Return nanoseconds of CPU time of one call (or of one chunk, its share of the call included).

    The bare client's entry is a median; the others are it plus the median of their difference to it in one round.
    """
    costs: Costs = {}
    gc.disable()
    for work in works:
        for variant, cost in _rounds(work, work.variants_of(variants)).items():
            costs[work.name, variant] = cost
        gc.collect()
        progress(f"timed {work.title}")
    gc.enable()
    return costs


def _rounds(work: Work, variants: Sequence[str]) -> dict[str, float]:
    turns = {variant: _turn(work, variant) for variant in variants}
    samples: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(ROUNDS):
        shift = number % len(variants)
        for variant in [*variants[shift:], *variants[:shift]]:
            samples[variant].append(turns[variant]())
    bare = statistics.median(samples["bare"])
    return {
        variant: bare + statistics.median(a - b for a, b in zip(taken, samples["bare"], strict=True))
        for variant, taken in samples.items()
    }


def _turn(work: Work, variant: str) -> Callable[[], float]:
    """Return a function that switches the variant on, runs the work and returns what one call took."""
    setup = work.setup_for(variant)
    provider = setup.tracer_provider()
    client = make_client()
    count = CHUNKS if work.per_chunk else CALLS

    def turn() -> float:
        with VARIANTS[variant](setup, provider):
            work.run(client, provider, 2)
            start = time.process_time_ns()
            work.run(client, provider, count)
            return (time.process_time_ns() - start) / count

    return turn
