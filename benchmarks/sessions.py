"""What real calls leave in a store, told again of any number of other sessions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random

from otel_llm_sessions.sessions.link import Record, SessionId, SessionLink, SpanRef
from otel_llm_sessions.stores.memory import MemoryStore

KINDS = ("chain", "nested-chain", "explicit", "nested-explicit")
TURNS = 8
SECOND = 1_000_000_000


class RecordingStore(MemoryStore):
    """Keeps all that was ever recorded, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ever, and note it."""
        self.records.append((tuple(keys), link))
        super().put(keys, link)


Session = list[Record]


def patterns() -> dict[str, Session]:
    """Return one session of each of ``KINDS``, as real instrumented calls of the benchmark's client record it.

    A chain and a session with an explicit id, each with its calls alone and inside a span of the application.
    """
    from benchmarks.client import make_client
    from benchmarks.variants import Setup
    from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor

    store, client, provider = RecordingStore(), make_client(), Setup().tracer_provider()
    instrumentor = OpenAISessionsInstrumentor()
    instrumentor.instrument(tracer_provider=provider, traces="session", store=store)
    tracer = provider.get_tracer("application")
    try:
        _chain(client)
        with tracer.start_as_current_span("request"):
            _chain(client)
        _explicit(client)
        with tracer.start_as_current_span("request"):
            _explicit(client)
    finally:
        instrumentor.uninstrument()
    recorded = [store.records[start : start + TURNS] for start in range(0, len(store.records), TURNS)]
    return dict(zip(KINDS, recorded, strict=True))


def _chain(client: object) -> None:
    from benchmarks.replies import MODEL, PROMPT

    previous = None
    for _ in range(TURNS):
        more = {} if previous is None else {"previous_response_id": previous}
        previous = client.responses.create(model=MODEL, input=PROMPT, **more).id  # type: ignore[attr-defined]


def _explicit(client: object) -> None:
    from benchmarks.replies import MODEL, PROMPT

    named = {"x-session-id": str(uuid.uuid4())}
    for _ in range(TURNS):
        client.responses.create(model=MODEL, input=PROMPT, extra_headers=named)  # type: ignore[attr-defined]


def turns(kinds: Sequence[Session], seed: int) -> Iterator[Record]:
    """Yield the turns of ever new sessions of all kinds in turn; the same for the same seed."""
    random = Random(seed)
    for number in count():
        yield from retold(kinds[number % len(kinds)], random)


def retold(session: Session, random: Random) -> Iterator[Record]:
    """Yield the same turns of another session: other ids of the same length, times and counts as of real calls."""
    names: dict[str, str] = {}
    trace_mask, span_mask = random.getrandbits(128), random.getrandbits(64)
    for keys, link in session:
        for name in (link.response_id, link.session_id):
            if name not in names:
                names[name] = _random_id("resp", random) if name.startswith("resp_") else _uuid(random)
        start = link.start + random.randrange(3600 * SECOND)
        trace = link.trace
        yield (
            tuple(_renamed(key, names, random) for key in keys),
            link._replace(
                session_id=SessionId(names[link.session_id]),
                response_id=names[link.response_id],
                span=SpanRef(link.span.trace_id ^ trace_mask, link.span.span_id ^ span_mask, link.span.flags),
                start=start,
                end=start + random.randrange(SECOND, 60 * SECOND),
                input_tokens=random.randrange(100, 100_000),
                output_tokens=random.randrange(10, 5_000),
                trace=trace
                and trace._replace(trace_id=trace.trace_id ^ trace_mask, root_span_id=trace.root_span_id ^ span_mask),
            ),
        )


def _renamed(key: str, names: dict[str, str], random: Random) -> str:
    kind, _, name = key.partition(":")
    if kind == "i":  # the item that a response consists of
        return f"i:{_random_id('msg', random)}"
    return f"{kind}:{names[name]}"


def _random_id(prefix: str, random: Random) -> str:
    return f"{prefix}_{random.getrandbits(192):048x}"


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
