"""What a chat history of 100 KB costs as evidence, with ``HISTORY`` on: to read it, and to remember its reply."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from otel_llm_sessions.openai.history import HistoryReader

SIZE = 100_000
MESSAGES = 101
"""A system prompt, and fifty turns of two kilobytes."""
ROUNDS = 200
WORDS = "lorem ipsum dolor sit amet "


class Cost(NamedTuple):
    """Microseconds; the median of all rounds."""

    first: float
    """Of a history that is seen for the first time."""
    known: float
    """Of one whose beginning is known, read anew from where the application keeps it."""
    same: float
    """Of one whose beginning is known, and is the same object."""


def measure() -> Cost:
    """Measure what a call pays for its history, but for the store."""
    from otel_llm_sessions.openai.history import HistoryReader
    from otel_llm_sessions.sessions.digest import DigestSource

    reader = HistoryReader(DigestSource("key", str), is_sure=True)
    talks = [_talk(number) for number in range(ROUNDS)]
    first = [_timed(reader, talk) for talk in talks]
    for talk in talks:
        talk += [{"role": "assistant", "content": f"Well. {WORDS}"}, {"role": "user", "content": "Go on"}]
    known = [_timed(reader, _anew(talk)) for talk in talks]
    same = [_timed(reader, talk) for talk in talks]
    return Cost(*(sorted(times)[ROUNDS // 2] for times in (first, known, same)))


def _talk(number: int) -> list[dict[str, str]]:
    text = WORDS * (SIZE // MESSAGES // len(WORDS) + 1)
    texts = [f"{number} {place} {text}"[: SIZE // MESSAGES] for place in range(MESSAGES)]
    roles = ["system", *["user", "assistant"] * (MESSAGES // 2)]
    roles[-1] = "user"
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


def _anew(talk: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: text[:1] + text[1:] for name, text in message.items()} for message in talk]


def _timed(reader: HistoryReader, messages: list[Any]) -> float:
    from otel_llm_sessions.sessions.resolver import NOTHING_TOLD

    begun = time.perf_counter_ns()
    history = reader.read(messages)
    assert history is not None
    history.tied(NOTHING_TOLD)
    history.left([{"role": "assistant", "content": f"Well. {WORDS}"}])
    return (time.perf_counter_ns() - begun) / 1000
