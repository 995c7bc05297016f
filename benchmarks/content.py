"""What contents cost late in a conversation, and how much of it is recorded.

python -m benchmarks.content [--rounds N]

A conversation of 100 turns and 80 KB of talk, five tools defined: of one list that the application adds to, and of
lists that it makes anew for each turn, as from a database. To know that it goes on, its history is looked at, not
written anew. Times are CPU time of this process. Exit 1 if a late turn takes longer than it may, or if too much is
recorded.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

import httpx2
import openai

TURNS, EARLY = 100, 10
CHARACTERS = 400
ROUNDS = 100
LONGER_BUDGET = 200.0
"""Microseconds by which all of content may take longer in the last turn than in an early one."""
RECORDED_BUDGET = 2.0
"""Characters of JSON for each character of talk."""

FUNCTION = {"description": "d" * 100, "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": {"name": f"tool_{number}", **FUNCTION}} for number in range(5)]


class Talk:
    """A conversation with a model that answers inside the process."""

    def __init__(self, is_rebuilt: bool) -> None:
        """Args: whether the application makes its messages anew for each turn."""
        chance = random.Random(1)
        self._history = [
            {"role": role, "content": "".join(chance.choices("abcdefgh ", k=CHARACTERS))}
            for _ in range(TURNS)
            for role in ("user", "assistant")
        ]
        self._is_rebuilt = is_rebuilt
        self.answering = 0
        """Nanoseconds of CPU time that the model took, which is neither the client nor we."""
        transport = httpx2.MockTransport(self._answer)
        self._client = openai.OpenAI(
            api_key="benchmark", base_url="http://benchmark.invalid/v1", http_client=httpx2.Client(transport=transport)
        )

    def sent(self, number: int) -> Any:
        """Return what a turn sends."""
        sent = self._history[: 2 * number - 1]
        return json.loads(json.dumps(sent)) if self._is_rebuilt else sent

    def send(self, messages: Any) -> None:
        """Make a turn."""
        self._client.chat.completions.create(model="model", messages=messages, tools=TOOLS)  # type: ignore[arg-type]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        begun = time.process_time_ns()
        message = self._history[len(json.loads(request.content)["messages"])]
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        id_ = f"chatcmpl-{random.getrandbits(120):030x}"
        reply = {"id": id_, "object": "chat.completion", "created": 1, "model": "model", "choices": [choice]}
        answer = httpx2.Response(200, json=reply)
        self.answering += time.process_time_ns() - begun
        return answer


class Cost(NamedTuple):
    """Microseconds of CPU time: the lower quartile of all rounds, which what else a machine does leaves alone."""

    early: float
    """All of content, in an early turn."""
    late: float
    """In the last turn."""
    client: float
    """By how much longer the client itself takes in the last turn than in the early one."""

    @property
    def longer(self) -> float:
        """By how much longer content takes in the last turn than in the early one."""
        return self.late - self.early


@contextlib.contextmanager
def recording() -> Iterator[list[Any]]:
    """Record contents inside the block; the spans that end are added to what is returned."""
    from otel_llm_sessions.testing import capture_spans

    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    with patch.dict("os.environ", {variable: "SPAN_ONLY"}), capture_spans() as spans:
        yield spans


def measure(is_rebuilt: bool, rounds: int = ROUNDS) -> Cost:
    """Measure what content takes in an early and in the last turn, by turns in one process."""
    from otel_llm_sessions import session

    talk = Talk(is_rebuilt)
    content: dict[int, list[int]] = {EARLY: [], TURNS: []}
    others: dict[int, list[int]] = {EARLY: [], TURNS: []}
    gc.disable()
    with recording() as spans, timed() as spent:
        for number in [EARLY, TURNS] * rounds:
            with session():
                talk.send(talk.sent(number - 1))
                sent = talk.sent(number)
                spent.clear()
                talk.answering, begun = 0, time.process_time_ns()
                talk.send(sent)
                taken = time.process_time_ns() - begun
            content[number].append(sum(spent))
            others[number].append(taken - sum(spent) - talk.answering)
            spans.clear()
            gc.collect(0)
    gc.enable()
    return Cost(_low(content[EARLY]), _low(content[TURNS]), _low(others[TURNS]) - _low(others[EARLY]))


def _low(nanoseconds: list[int]) -> float:
    return statistics.quantiles(nanoseconds, n=4)[0] / 1000


@contextlib.contextmanager
def timed() -> Iterator[list[int]]:
    """Time all that is done for contents inside the block, in nanoseconds: one for each step."""
    from otel_llm_sessions.openai.content import CallContent

    spent: list[int] = []

    def of(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            begun = time.process_time_ns()
            try:
                return step(*arguments)
            finally:
                spent.append(time.process_time_ns() - begun)

        return run

    begins, ends = of(CallContent.__init__), of(CallContent.tell)
    with patch.object(CallContent, "__init__", begins), patch.object(CallContent, "tell", ends):
        yield spent


def recorded() -> tuple[int, int]:
    """Return how many characters of JSON a whole conversation leaves in its spans, and how many were said."""
    from otel_llm_sessions import session

    talk = Talk(is_rebuilt=False)
    with recording() as spans, session():
        for number in range(1, TURNS + 1):
            talk.send(talk.sent(number))
    names = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions")
    written = sum(len(span.attributes.get(name, "")) for span in spans for name in names)
    return written, 2 * TURNS * CHARACTERS


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.content", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    missed = False
    for title, is_rebuilt in (("appended to", False), ("rebuilt", True)):
        cost = measure(is_rebuilt, rounds)
        missed = missed or cost.longer > LONGER_BUDGET
        print(
            f"history {title:11}  turn {EARLY} {cost.early:4.0f} us, turn {TURNS} {cost.late:4.0f} us: "
            f"{cost.longer:+4.0f} us of {LONGER_BUDGET:.0f}; the client itself {cost.client:+.0f} us"
        )
    written, said = recorded()
    print(
        f"recorded             {written:,} characters for {said:,} of talk: {written / said:.2f} x of {RECORDED_BUDGET}"
    )
    return 1 if missed or written / said > RECORDED_BUDGET else 0


if __name__ == "__main__":
    sys.exit(main())
