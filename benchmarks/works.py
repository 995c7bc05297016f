"""What is measured: one entry per row of the design's table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import openai
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.client import CHUNKS_HEADER
from benchmarks.replies import MODEL, PROMPT
from benchmarks.variants import Setup

MESSAGES = [{"role": "system", "content": "You are kind and brief."}, {"role": "user", "content": PROMPT}]
SESSION = "0b4f8a52-6f0e-4d60-9d5a-5c8d2a1e7f33"
Run = Callable[[openai.OpenAI, TracerProvider, int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One row: what is done ``few`` and ``many`` times, under which setup, and what it may cost.

    ``limit`` is a multiple of the floor's cost; for a ``per_chunk`` row, where ``run`` reads one stream of that many
    chunks, a percentage of the client's own work on a chunk.
    """

    name: str
    title: str
    run: Run
    limit: float
    setup: Setup = field(default_factory=Setup)
    floor_setup: Setup | None = None
    few: int = 4
    many: int = 12
    warm: int = 12
    rounds: int = 9
    """How often it is counted; each round is off by its own some thousandths of the client's work."""
    per_chunk: bool = False
    is_ceiling: bool = False
    """Whether ``limit`` is no budget of the design, but a ceiling of our own: a little above what has been counted, so
    that it is seen when the row gets worse. It promises nothing, and may be set anew when a release of the SDK moves
    the floor; a budget may not."""

    def variants_of(self, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that are measured; a chunk has no floor, its measure is the client's own work."""
        return [name for name in names if not (self.per_chunk and name == "floor")]

    def setup_for(self, variant: str) -> Setup:
        """Return the setup under which ``variant`` is measured."""
        return self.floor_setup if variant == "floor" and self.floor_setup else self.setup


def chat(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Make ``count`` chat calls that belong to no session."""
    for _ in range(count):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.5)


def chat_session(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Make ``count`` chat calls that name their session."""
    for _ in range(count):
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            temperature=0.5,
            extra_body={"metadata": {"litellm_session_id": SESSION}},
        )


def chain(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Make ``count`` responses calls, each following the one before."""
    previous = client.responses.create(model=MODEL, input=PROMPT).id
    for _ in range(count):
        previous = client.responses.create(model=MODEL, input=PROMPT, previous_response_id=previous).id


def first_turn(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Make ``count`` responses calls without evidence: each opens a session."""
    for _ in range(count):
        client.responses.create(model=MODEL, input=PROMPT)


def nested(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Make a chain of ``count`` responses calls inside one ambient span.

    The first turn is outside of the difference of many and few; each later one costs a call and a marker.
    """
    with provider.get_tracer("application").start_as_current_span("request"):
        chain(client, provider, count)


def chat_stream(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Read one chat stream of ``count`` chunks."""
    headers = {CHUNKS_HEADER: str(count)}
    options = {"include_usage": True}
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options=options, extra_headers=headers
    ) as stream:
        for _ in stream:
            pass


def response_stream(client: openai.OpenAI, provider: TracerProvider, count: int) -> None:
    """Read one responses stream of ``count`` chunks."""
    headers = {CHUNKS_HEADER: str(count)}
    with client.responses.create(model=MODEL, input=PROMPT, stream=True, extra_headers=headers) as stream:
        for _ in stream:
            pass


_UNSAMPLED = Setup(sampled=False)
_UNSAMPLED_TURN = {"setup": _UNSAMPLED, "few": 20, "many": 180, "rounds": 3, "is_ceiling": True}
_CHUNKS = {"few": 40, "many": 200, "warm": 100, "rounds": 3, "per_chunk": True}
_CONTENT = {"setup": Setup(content=True), "is_ceiling": True, **_CHUNKS}

WORKS: tuple[Work, ...] = (
    Work("chat", "chat call, no session", chat, 1.5),
    Work("explicit", "chat call, explicit session", chat_session, 2.0),
    Work("chain", "chained responses call", chain, 2.0),
    Work("first", "first turn that opens a session trace", first_turn, 2.5),
    Work("nested", "nested turn (call and marker)", nested, 3.0),
    Work("metrics", "chat call with metrics", chat, 2.75, Setup(metrics=True), floor_setup=Setup()),
    Work("unsampled", "unsampled call", chat, 3.0, _UNSAMPLED),
    Work("unsampled-session", "unsampled call of an explicit session", chat_session, 4.3, **_UNSAMPLED_TURN),
    Work("unsampled-chain", "unsampled chained call", chain, 4.5, **_UNSAMPLED_TURN),
    Work("unsampled-nested", "unsampled nested turn", nested, 4.9, **_UNSAMPLED_TURN),
    Work("chunk-chat", "one stream chunk, chat", chat_stream, 1.0, **_CHUNKS),
    Work("chunk-responses", "one stream chunk, responses", response_stream, 1.0, **_CHUNKS),
    Work("chunk-chat-content", "one stream chunk, chat, content on", chat_stream, 2.0, **_CONTENT),
    Work("chunk-responses-content", "one stream chunk, responses, content on", response_stream, 2.0, **_CONTENT),
)
