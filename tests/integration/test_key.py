"""With a key nobody outside chooses or tells a session's trace id (docs/operations.md)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time

import pytest
from loopback_client import THINKING
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.settings import settings_from
from otel_llm_sessions.testing import capture_spans

KEY = "correct horse battery staple"


def test_the_trace_id_is_the_hmac_of_what_it_would_be_the_digest_of():
    expected = hmac.new(KEY.encode(), b"shop\0chat-42\x002", hashlib.sha256).hexdigest()[:32]
    assert session_trace_id("chat-42", namespace="shop", part=2, key=KEY) == expected
    assert session_trace_id("chat-42", key="") == session_trace_id("chat-42", key=None) == session_trace_id("chat-42")


def test_a_session_is_in_the_trace_of_its_key(client):
    roots = []
    for key in (KEY, KEY, "another", None):
        with capture_spans(key=key) as spans:
            client.chat.completions.create(model="m", messages=[], metadata={"session_id": "chat-42"})
        (root,) = (span for span in spans if span.parent is None)
        assert f"{root.context.trace_id:032x}" == session_trace_id("chat-42", key=key)
        roots.append(root.context)
    assert len({root.trace_id for root in roots}) == 3
    assert len({root.span_id for root in roots}) == 4, "stores of one process have scopes of their own"


def test_who_grinds_session_ids_does_not_choose_what_is_sampled(client):
    sampler = TraceIdRatioBased(0.001)
    bound = sampler.bound
    ground = [id_ for id_ in map(str, range(30_000)) if int(session_trace_id(id_)[16:], 16) < bound][:20]
    assert len(ground) == 20
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, key=KEY) as spans:
        for id_ in ground:
            client.chat.completions.create(model="m", messages=[], metadata={"session_id": id_})
    assert len(spans) < 10


def test_the_key_is_shown_nowhere(client, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTEL_LLM_SESSIONS_KEY", KEY)
    assert settings_from().key == KEY
    assert KEY not in repr(settings_from()) + str(settings_from())
    for wrong in (f"{KEY}\0", 7):
        with pytest.raises(ValueError, match=r"key=\*\*\*") as error:
            settings_from({"key": wrong})
        assert KEY not in str(error.value)
    monkeypatch.setenv("OTEL_LLM_SESSIONS_KEY", f"{KEY}\x01")
    assert settings_from().key is None
    monkeypatch.setenv("OTEL_LLM_SESSIONS_KEY", KEY)
    with capture_spans() as spans:
        client.chat.completions.create(model="m", messages=[], metadata={"session_id": "chat-42"})
    assert "OTEL_LLM_SESSIONS_KEY=*** is not valid" in caplog.text
    assert KEY not in caplog.text
    assert not any(KEY in str(span.to_json()) for span in spans)


def test_a_key_from_a_file_may_end_with_the_end_of_a_line():
    assert settings_from({}, {"OTEL_LLM_SESSIONS_KEY": f"{KEY}\n"}).key == KEY


FORGED = "00f067aa0ba902b7"


@pytest.mark.usefixtures("thinks_meanwhile")
@pytest.mark.parametrize("fetches", [False, True], ids=["asks the provider", "fetches it"])
def test_metadata_of_a_visitors_puts_no_turn_into_a_trace_of_his_choice(api, fetches):
    victims = session_trace_id("a customer", key=KEY)
    root = f"{victims}-{FORGED}-01;1;1;{time.time_ns()}"
    visitors = {
        "session.id": "a visitor",
        "traceparent": f"00-{victims}-{FORGED}-01",
        "tracestate": f"llm_session=1;header;7;1;{root}",
    }
    before = api.respond(metadata=visitors)  # passed on as it is, by a process that is not instrumented
    with capture_spans(key=KEY, provider_lookup=not fetches) as spans:
        if fetches:
            api.retrieve(before.id)
        api.respond(previous_response_id=before.id, **({} if fetches else THINKING))
    turn = [span for span in spans if span.kind is SpanKind.CLIENT][-1]
    assert (turn.attributes["session.id"], turn.attributes["llm_session.turn"]) == ("a visitor", 2)
    linked = {link.context.trace_id for link in turn.links}
    assert {f"{id_:032x}" for id_ in linked | {span.context.trace_id for span in spans}}.isdisjoint({victims})


@pytest.mark.usefixtures("thinks_meanwhile")
def test_what_a_process_with_the_key_has_sent_is_believed(api):
    with capture_spans(key=KEY, propagate="metadata") as first:
        before = api.respond(metadata={"session_id": "chat-42"})
    with capture_spans(key=KEY, provider_lookup=True) as second:
        api.respond(previous_response_id=before.id, **THINKING)
    (turn,) = [span for span in second if span.kind is SpanKind.CLIENT]
    (marker,) = [span for span in second if span.name == "turn"]
    assert turn.attributes["llm_session.turn"] == 2
    assert marker.context.trace_id == first[0].context.trace_id
    assert turn.links[0].context.span_id == first[-1].context.span_id
