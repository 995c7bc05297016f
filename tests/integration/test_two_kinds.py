"""Two kinds of evidence that name different sessions: the one that stands higher decides, and the span links to the
other (docs/sessions.md)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
from echo_kit import called, completion, gave_back, linked_to, message, response, said, tool_call, user
from loopback_client import THINKING
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from session_kit import calls

from otel_llm_sessions import session
from otel_llm_sessions.sessions.link import Source
from otel_llm_sessions.sessions.sources import BODY_KEYS, HEADERS, METADATA_KEYS
from otel_llm_sessions.testing import capture_spans

SAID = {
    "header": {"extra_headers": {"x-session-id": "header"}},
    "body": {"extra_body": {"session_id": "body"}},
    "metadata": {"metadata": {"session_id": "metadata"}},
    "context": {"context": "context"},
    "default header": {"defaults": {"x-session-id": "default header"}},
    "conversation": {"conversation": "conv_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"},
    "baggage": {"baggage": "baggage"},
}
"""What calls say that name their session; the names in lower case are no arguments, but what is around the call."""

BY_NAME = ["header", "body", "metadata", "context", "default header"]

ORDER = {
    "chat": [*BY_NAME, "tool_call", "history", "baggage"],
    "responses": [*BY_NAME, "conversation", "chain", "item", "provider", "chain_partial", "baggage"],
}
"""The kinds of evidence by API, the strongest first (docs/sessions.md)."""

PREVIOUS = {"chain", "provider", "chain_partial"}
"""What the response before tells: of these a request has one."""

PAIRS = [
    pytest.param(api, higher, lower, id=f"{higher} over {lower} in {api}")
    for api, kinds in ORDER.items()
    for higher, lower in combinations(kinds, 2)
    if not {higher, lower} <= PREVIOUS
]

KNOWN = {"chain", "item", "tool_call", "history"}
"""What tells that an earlier call is of another session, whose span is known."""


class Talk:
    """Makes calls of one API, and leaves what later calls say."""

    def __init__(self, name: str, api: Any, server: Any, elsewhere: Callable[[], str]) -> None:
        self.name, self.api, self.server, self.elsewhere = name, api, server, elsewhere

    def call(self, answer: Any = None, **says: Any) -> Any:
        """Make a call; return the reply."""
        around, defaults = (says.pop(name, None) for name in ("context", "defaults"))
        api = self.api.with_options(default_headers=defaults) if defaults else self.api
        with contextlib.ExitStack() as inside:
            if name := says.pop("baggage", None):
                inside.callback(detach, attach(baggage.set_baggage("session.id", name)))
            if around:
                inside.enter_context(session(around))
            if self.name == "chat":
                self.server.script(completion(answer or said()), path="/chat/completions")
                sent = [*says.pop("before", []), user("Go on"), *says.pop("behind", [])]
                return api.chat(messages=sent, **says)
            self.server.script(response(answer or message()), path="/responses")
            return api.respond(**says)

    def leave(self, kind: str) -> dict[str, Any]:
        """Make a turn of another session, if one is needed; return what a later call says that goes on from it."""
        if kind in SAID:
            self.call(**SAID[kind])
            return SAID[kind]
        if kind == "chain":
            return {"previous_response_id": self.call().id}
        if kind == "item":
            left = message()
            self.call(left)
            return {"input": [left, user()]}
        if kind == "tool_call":
            tool = tool_call()
            self.call(called(tool))
            return {"behind": gave_back(tool)}
        if kind == "history":
            self.call(said("What?"))
            return {"before": [user("Go on"), said("What?")]}
        return {"previous_response_id": self.elsewhere() if kind == "provider" else response()["id"]}


@pytest.mark.usefixtures("thinks_meanwhile")
@pytest.mark.parametrize("api", ["sync"], indirect=True)
@pytest.mark.parametrize(("name", "higher", "lower"), PAIRS)
def test_the_higher_decides_and_the_span_links_to_the_other(name, higher, lower, api, server, elsewhere):
    talk = Talk(name, api, server, elsewhere)
    with capture_spans(traces="turn", history=True, provider_lookup=True) as spans:
        weaker, stronger = talk.leave(lower), talk.leave(higher)
        sessions = [span.attributes["session.id"] for span in calls(spans)]
        if higher == "provider":
            stronger |= THINKING
        talk.call(**{**weaker, **stronger})
    *before, made = calls(spans)
    expected = stronger["previous_response_id"] if higher in ("provider", "chain_partial") else sessions[-1]
    assert made.attributes["session.id"] == expected
    assert made.attributes["llm_session.source"] == higher.removeprefix("default ")
    # Of two names of the application's the weaker is not looked up, nor is baggage beside a response before.
    is_linked = lower in KNOWN or (lower == "baggage" and higher in KNOWN - {"chain"})
    assert linked_to(made, "other_session") == ([before[0].context.span_id] if is_linked else [])


# --- the table of sources ---------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/sessions.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| source | where |\n|---|---|\n")[2].partition("\n\n")[0]
ROWS = [re.fullmatch(r"\| `(\w+)` \| (.*) \|", line) for line in TABLE.splitlines()]
TOLD = [(row[1], row[2]) for row in ROWS if row is not None]
"""What a span says of its session's source, and where that stands in a request."""


def test_every_source_stands_in_the_table():
    assert {source for source, _ in TOLD} == {*get_args(Source)}
    assert len(TOLD) == len(ROWS)


@pytest.mark.parametrize("api", ORDER)
def test_the_order_of_the_table_is_the_one_that_decides(api):
    decides = [kind.removeprefix("default ") for kind in ORDER[api]]
    assert [source for source, _ in TOLD if source in decides] == decides


@pytest.mark.parametrize(("source", "names"), [("header", HEADERS), ("body", BODY_KEYS), ("metadata", METADATA_KEYS)])
def test_the_table_has_the_names_in_the_order_in_which_they_are_looked_for(source, names):
    where = dict(reversed(TOLD))[source]
    assert tuple(re.findall(r"`([^`]+)`", where))[: len(names)] == names
