"""A conversation that is compacted goes on in its session, whoever compacts it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from loopback_client import MODEL
from openai.resources.responses import Responses
from session_kit import places
from traces_kit import linked, only, ref

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans

COMPACTED = "gen_ai.conversation.compacted"
RULE = [{"type": "compaction", "compact_threshold": 1}]

pytestmark = pytest.mark.skipif(not hasattr(Responses, "compact"), reason="this client compacts nothing")


def compacted(api: Any, how: str = "plain", **arguments: Any) -> list[Any]:
    """Compact what the arguments say; return the items that take its place."""
    responses, arguments = api.client.responses, {"model": MODEL, **arguments}
    if how == "raw":
        return items_of(api.finish(responses.with_raw_response.compact(**arguments)).parse())
    return items_of(api.finish(responses.compact(**arguments)))


def items_of(reply: Any) -> list[Any]:
    return [item.to_dict(warnings=False) for item in reply.output]


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def calls(spans: Any) -> list[Any]:
    return [span for span in spans if span.name.startswith(("chat", "compact"))]


@pytest.mark.parametrize("how", ["plain", "raw"])
def test_a_chain_that_is_compacted_goes_on_from_what_took_its_place(api, both_modes, how):
    first = api.respond()
    items = compacted(api, how, previous_response_id=first.id)
    third = api.respond(input=[*items, said("And now?")])
    api.respond(input=[*items, said("And now?"), *items_of(third), said("Thanks")])
    api.respond(previous_response_id=third.id)
    assert places(calls(both_modes)) == [(first.id, turn) for turn in (1, 2, 3, 4, 4)]
    assert [span.attributes["llm_session.source"] for span in calls(both_modes)] == [
        "new", "chain", "item", "item", "chain"
    ]  # fmt: skip
    assert [COMPACTED in span.attributes for span in calls(both_modes)] == [False, False, True, True, False]


def test_a_history_that_the_application_keeps_is_compacted(api, traced):
    history = [said("Hello")]
    history += items_of(api.respond(input=history, store=False))
    history += [said("Go on")]
    history += items_of(api.respond(input=history, store=False))
    history = [*compacted(api, input=history), said("And now?")]
    api.respond(input=history, store=False)
    found = calls(traced.spans)
    assert [span.attributes["llm_session.turn"] for span in found] == [1, 2, 3, 4]
    assert len({span.attributes["session.id"] for span in found}) == 1
    assert [linked(span, "previous_turn") for span in found[1:]] == [[ref(span)] for span in found[:-1]]
    assert len(traced.named("session")) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_compacts_on_the_way_changes_no_session(api, spans, stream):
    def ask(**arguments: Any) -> Any:
        made = api.respond(stream=stream, context_management=RULE, **arguments)
        return api.read(made)[-1].response if stream else made

    first = ask()
    second = ask(previous_response_id=first.id)
    ask(input=[*items_of(second), said("And now?")])
    assert places(calls(spans)) == [(first.id, 1), (first.id, 2), (first.id, 3)]
    assert [span.attributes[COMPACTED] for span in calls(spans)] == [True] * 3


def test_a_stream_that_is_left_after_the_compaction_has_left_its_item(api, spans):
    events = api.read(api.respond(stream=True, context_management=RULE), at_most=4)
    item = next(event.item for event in events if event.type == "response.output_item.done")
    assert item.type == "compaction"
    api.respond(input=[item.to_dict(), said("And now?")])
    assert places(calls(spans)) == [(events[0].response.id, 1), (events[0].response.id, 2)]


def test_what_is_compacted_in_a_named_session_goes_on_in_it_elsewhere(api, spans):
    with session("mine"):
        items = compacted(api, input=[said("Hello")])
    api.respond(input=[*items, said("And now?")])
    assert places(calls(spans)) == [("mine", 1), ("mine", 2)]


def test_to_compact_begins_a_session_where_nothing_was_before(api, spans):
    items = compacted(api, input=[said("Hello")])
    api.respond(input=[*items, said("And now?")])
    named = calls(spans)[0].attributes
    assert named["session.id"] == named["gen_ai.response.id"]
    assert places(calls(spans)) == [(named["session.id"], 1), (named["session.id"], 2)]


def test_two_conversations_that_are_compacted_stay_apart(api, spans):
    firsts = [api.respond() for _ in range(2)]
    items = [compacted(api, previous_response_id=first.id) for first in firsts]
    for each in items:
        api.respond(input=[*each, said("And now?")])
    assert [session_id for session_id, _ in places(calls(spans))] == [first.id for first in firsts] * 3


def test_a_failure_to_compact_is_a_turn_that_left_nothing(api, spans):
    first = api.respond()
    with pytest.raises(openai.InternalServerError):
        compacted(api, previous_response_id=first.id, extra_headers={"x-loopback-mode": "status=500"})
    api.respond(previous_response_id=first.id)
    assert places(calls(spans)) == [(first.id, 1), (first.id, 2), (first.id, 2)]
    assert calls(spans)[1].attributes["error.type"] == "openai.InternalServerError"


@pytest.mark.usefixtures("patient")
def test_another_process_goes_on_from_the_compacted(api, shared_url, exported):
    with capture_spans(tracer_provider=exported.provider, store=shared_url):
        first = api.respond()
        items = compacted(api, previous_response_id=first.id)
    with capture_spans(tracer_provider=exported.provider, store=shared_url):
        api.respond(input=[*items, said("And now?")])
    assert places(calls(exported.spans)) == [(first.id, turn) for turn in (1, 2, 3)]
    assert only(exported.named("session")).attributes["session.id"] == first.id
