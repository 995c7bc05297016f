"""A stranger, who knows the README's attributes and nothing else, rebuilds every session from the OTLP that arrived."""

from __future__ import annotations

import ast
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from traces_kit import ref


@dataclass
class Turn:
    number: int
    part: int | None
    response_id: str | None
    previous: str | None
    """The response id of the turn before."""
    failed: bool
    tokens: int | None
    nested_in: str | None
    """The name of the span in whose trace the call stands, if that is not the session's."""


@dataclass
class Rebuilt:
    turns: list[Turn] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    """The parts in the order in which their roots link to one another."""


def rebuild(spans: list[Any]) -> dict[str, Rebuilt]:
    """Return the sessions by id: from span names, ids, links and documented attributes alone."""
    by_ref = {(span.trace_id, span.span_id): span for span in spans}
    assert len(by_ref) == len(spans), "a span arrived twice"
    sessions: dict[str, Rebuilt] = defaultdict(Rebuilt)
    roots = [span for span in spans if span.attributes.get("llm_session.root") and not span.parent_id]
    below: set[Any] = set()
    for root in roots:
        assert root.attributes["session.id"]
        children = [s for s in spans if (s.trace_id, s.parent_id) == (root.trace_id, root.span_id)]
        turns = sorted((s for s in children if "llm_session.turn" in s.attributes), key=lambda s: s.start)
        session = sessions[root.attributes["session.id"]]
        for span in turns:
            assert span.attributes["session.id"] == root.attributes["session.id"]
            assert span.attributes["llm_session.part"] == root.attributes["llm_session.part"]
            call = real(span, by_ref)
            below.add(id(call))
            session.turns.append(turn(span, call, by_ref))
    for id_ in sessions:
        sessions[id_].parts = chained([r for r in roots if r.attributes["session.id"] == id_], by_ref)
        sessions[id_].turns.sort(key=lambda t: t.part or 0)
    for span in spans:
        if span.name.startswith("chat") and "session.id" in span.attributes and id(span) not in below:
            sessions[span.attributes["session.id"]].turns.append(turn(span, span, by_ref))
    return dict(sessions)


def real(span: Any, by_ref: dict[Any, Any]) -> Any:
    """Return the call that a child of a root stands for: itself, or what a marker links to."""
    if span.name != "turn":
        return span
    (link,) = span.links
    call = by_ref[link.trace_id, link.span_id]
    assert (call.start, call.end) == (span.start, span.end)
    assert not any(name.startswith("gen_ai.usage") for name in span.attributes)
    return call


def turn(span: Any, call: Any, by_ref: dict[Any, Any]) -> Turn:
    before = [by_ref[ref(link)] for link in call.links if link.attributes.get("llm_session.link") == "previous_turn"]
    around = by_ref.get((call.trace_id, call.parent_id)) if span.name == "turn" else None
    usage = call.attributes.get("gen_ai.usage.output_tokens")
    return Turn(
        span.attributes["llm_session.turn"],
        span.attributes.get("llm_session.part"),
        call.attributes.get("gen_ai.response.id"),
        before[0].attributes.get("gen_ai.response.id") if before else None,
        call.status == "ERROR",
        usage,
        around.name if around else None,
    )


def chained(roots: list[Any], by_ref: dict[Any, Any]) -> list[int]:
    """Return the parts from the first on, by following the links backwards from the last."""
    linked = {ref(link) for root in roots for link in root.links if link.attributes["llm_session.link"] == "session"}
    (last,) = [root for root in roots if ref(root) not in linked]
    order = [last]
    while order[-1].links:
        order.append(by_ref[ref(order[-1].links[0])])
    assert {id(root) for root in order} == {id(root) for root in roots}
    return [root.attributes["llm_session.part"] for root in reversed(order)]


# --- what happened, as the application knows it -----------------------------------------------------------------


class Application:
    """Makes calls and keeps its own books."""

    def __init__(self, client: Any, tracer: Any) -> None:
        self.client = client
        self.tracer = tracer
        self.books: dict[str, list[tuple[str | None, str | None]]] = {}

    def respond(self, request: str | None = None, **arguments: Any) -> Any:
        if request is None:
            return self.client.responses.create(model="m", input="Hello there", **arguments)
        with self.tracer.start_as_current_span(request):
            return self.client.responses.create(model="m", input="Hello there", **arguments)

    def chain(self, *requests: str | None) -> None:
        """A chain, each turn under the request span of that name, if there is one."""
        previous, book = None, []
        for request in requests:
            arguments = {"previous_response_id": previous} if previous else {}
            reply = self.respond(request, **arguments)
            book.append((reply.id, previous))
            previous = reply.id
        self.books[book[0][0]] = book

    def fork(self) -> None:
        first = self.respond()
        book = [(first.id, None)]
        for _ in range(2):
            reply = self.respond(previous_response_id=first.id)
            book.append((reply.id, first.id))
        self.books[first.id] = book

    def named(self, id_: str, number: int, request: str | None = None) -> None:
        previous, book = None, []
        for _ in range(number):
            reply = self.respond(request, metadata={"session_id": id_})
            book.append((reply.id, previous))
            previous = reply.id
        self.books[id_] = book

    def failing(self) -> None:
        first = self.respond()
        with pytest.raises(openai.RateLimitError):
            self.respond(previous_response_id=first.id, extra_headers={"x-loopback-mode": "status=429"})
        second = self.respond(previous_response_id=first.id)
        self.books[first.id] = [(first.id, None), (None, first.id), (second.id, first.id)]

    def streamed(self) -> None:
        events = list(self.respond(stream=True))
        first = events[0].response.id
        second = self.respond(previous_response_id=first)
        self.books[first] = [(first, None), (second.id, first)]

    def alone(self, request: str | None) -> None:
        """A call of a chain that never gets a second turn: under a request, or not stored."""
        reply = self.respond(request, **({} if request else {"store": False}))
        self.books[reply.id] = [(reply.id, None)]

    def chat(self) -> None:
        """A call that belongs to no session."""
        self.client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture
def application(client, exported):
    from otel_llm_sessions.testing import capture_spans

    with capture_spans(tracer_provider=exported.provider, max_turns=3):
        yield Application(client, exported.provider.get_tracer("the application's"))


def test_every_session_is_rebuilt_with_its_turns_order_links_and_parts(application, exported):
    work = [
        lambda: application.chain(None, None, None),
        lambda: application.chain("GET /a", "GET /b"),
        lambda: application.chain("GET /a", None, "GET /c"),
        lambda: application.chain(None, "agent", None),
        application.fork,
        lambda: application.named("shop-1", 2),
        lambda: application.named("long", 8),
        lambda: application.named("long nested", 7, "GET /long"),
        lambda: application.named("umläut ✓ 漢字", 1),
        application.failing,
        application.streamed,
        lambda: application.alone("GET /once"),
        lambda: application.alone(None),
        application.chat,
    ]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()
    rebuilt = rebuild(exported.spans)
    found = {id_: [(turn.response_id, turn.previous) for turn in s.turns] for id_, s in rebuilt.items()}
    assert found == application.books
    assert {id_: s.parts for id_, s in rebuilt.items() if len(s.parts) > 1} == {
        "long": [1, 2, 3],
        "long nested": [1, 2, 3],
    }
    assert [turn.number for turn in rebuilt["long"].turns] == list(range(1, 9))
    assert [turn.part for turn in rebuilt["long nested"].turns] == [1, 1, 1, 2, 2, 2, 3]
    assert {turn.nested_in for turn in rebuilt["long nested"].turns} == {"GET /long"}
    failed = [turn for s in rebuilt.values() for turn in s.turns if turn.failed]
    assert [(turn.number, turn.response_id) for turn in failed] == [(2, None)]
    assert all(turn.tokens for s in rebuilt.values() for turn in s.turns if not turn.failed)


def test_the_places_of_a_mixed_chain_are_rebuilt(application, exported):
    application.chain(None, "GET /a", None, "GET /b")
    (session,) = rebuild(exported.spans).values()
    assert [turn.nested_in for turn in session.turns] == [None, "GET /a", None, "GET /b"]
    assert [turn.number for turn in session.turns] == [1, 2, 3, 4]
    assert [turn.part for turn in session.turns] == [1, 1, 1, 2]


def test_the_stranger_imports_nothing_of_the_package():
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    rebuilding = [node for node in tree.body if getattr(node, "name", "") in ("rebuild", "real", "turn", "chained")]
    assert len(rebuilding) == 4
    assert "otel_llm_sessions" not in " ".join(map(ast.unparse, [*at_import, *rebuilding]))
