"""No id from outside makes another path of the one that is asked for with the application's key."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lookup_kit import BRIEF, calls, no_walk_is_left, retrieved
from loopback_client import THINKING
from session_kit import found
from waiting import until

from otel_llm_sessions.testing import capture_spans

pytestmark = pytest.mark.usefixtures("warned", "thinks_meanwhile")

ODD = (
    ".", "..", "...", "%2e", "%2E%2e", "%252e%252e", "../files", "x/../../files", "x/..", "x/.", "/", "//evil/x",
    "x//y", "..\\files", "x\\..\\y", "x?limit=1", "x#y", "x;y", "x y", " ", "\t", "x\r\nx-more: 1", "\x00",
    "\u2024\u2024", "\uff0e\uff0e", "\ud800", "x/input_items", "x/cancel", "http://127.0.0.1/", "x" * 5000, "&",
    "\u0130",
)  # fmt: skip
PREFIX = "/v1/responses/"


SPANS = {"provider_lookup": True}
"""The settings of the fixture ``spans``."""


def stays_below(path: str) -> bool:
    """Whether a path is a response's, however often it is unquoted and then normalised."""
    seen = path
    for _ in range(4):
        normal = posixpath.normpath(seen.replace("\\", "/"))
        if not normal.startswith(PREFIX) or normal != seen.rstrip("/") or any(c in seen for c in "?#;"):
            return False
        seen = unquote(seen)
    return True


def answer(server: Any, delay: float) -> None:
    """Let the model reply as servers do that care for no ``previous_response_id``."""
    body = {"id": "resp_next_0123456789abcdef01234567", "object": "response", "output": []}
    server.script(body, path="/responses", delay=delay)


@pytest.mark.parametrize("id_", ODD, ids=range(len(ODD)))
def test_an_odd_id_is_asked_for_by_no_path(api, server, spans, id_):
    answer(server, 0.02)
    try:
        api.respond(previous_response_id=id_)
    except UnicodeEncodeError:
        assert id_ == "\ud800", "which the client cannot send"
    until(no_walk_is_left)
    assert not retrieved(server)
    assert len(calls(spans)) == 1


@given(st.text(st.sampled_from("./\\%?#25eEaA_-1~+=;: "), min_size=1, max_size=12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_for_stays_below_the_responses(client, server, id_):
    server.requests.clear()
    with capture_spans(provider_lookup=True) as spans:
        answer(server, 0.01)
        client.responses.create(model="gpt-4o-mini", input="x", previous_response_id=id_)
        until(no_walk_is_left)
    assert len(calls(spans)) == 1
    for request in server.requests:
        assert request.method == "POST" or stays_below(request.path), request.path


def test_an_odd_id_that_a_response_names_is_asked_for_by_no_path_either(api, server, chain, spans):
    (id_,) = chain(1)
    server.script({"id": id_, "object": "response", "previous_response_id": ".."}, path=id_)
    last = api.respond(previous_response_id=id_, **THINKING).id
    api.respond(previous_response_id=last, **BRIEF)
    assert retrieved(server) == [id_], "and it is asked for once"
    assert {found(span)[:1] for span in calls(spans)} == {(id_,)}


USUAL = ("resp_bGl0ZWxsbTpjdXN0b20/fQ+0a9=", "resp_1", "chatcmpl-150", "resp_" + "0123456789abcdef" * 29)


@pytest.mark.parametrize("id_", USUAL, ids=range(len(USUAL)))
def test_ids_as_servers_make_them_are_asked_for(api, server, spans, id_):
    server.script({"id": id_, "object": "response"}, path=id_)
    answer(server, 5)
    api.respond(previous_response_id=id_)
    (asked,) = [request.path for request in server.requests if request.method == "GET"]
    assert asked == PREFIX + id_
    assert found(calls(spans)[0])[1] == "provider"
