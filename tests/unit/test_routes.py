"""Which requests become spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._utils import path_template

from otel_llm_sessions.openai.routes import CANCEL, CHAT, COMPACT, CONVERSATIONS, FETCH, RESPONSES, Match, find

OURS = [
    ("post", "/chat/completions", Match(CHAT, None)),
    ("POST", "/chat/completions", Match(CHAT, None)),
    ("post", "/responses", Match(RESPONSES, None)),
    ("post", "/responses/compact", Match(COMPACT, None)),
    ("get", "/responses/resp_1", Match(FETCH, "resp_1")),
    ("GET", "/responses/resp_1?stream=true", Match(FETCH, "resp_1")),
    ("post", "/responses/resp_1/cancel", Match(CANCEL, "resp_1")),
    # The client escapes what would end a segment of the path.
    ("get", "/responses/resp_a%2Fb+c%3D%3D", Match(FETCH, "resp_a/b+c==")),
    ("get", "/responses/resp_a%252Fb?stream=true", Match(FETCH, "resp_a%2Fb")),
    ("post", "/responses/resp_a%2Fcancel/cancel", Match(CANCEL, "resp_a/cancel")),
    ("get", "/responses/resp_%C3%BC", Match(FETCH, "resp_ü")),
    # What has no span, and tells of a conversation's items.
    ("post", "/conversations", Match(CONVERSATIONS, None)),
    ("get", "/conversations/conv_1/items", Match(CONVERSATIONS, None, "conv_1")),
    ("POST", "/conversations/conv_1/items", Match(CONVERSATIONS, None, "conv_1")),
    ("get", "/conversations/conv_a%2Fb/items?limit=2", Match(CONVERSATIONS, None, "conv_a/b")),
    ("get", "/conversations/%0A/items", Match(CONVERSATIONS, None, None)),
    ("get", "https://example.org/v1/conversations/conv_1/items", Match(CONVERSATIONS, None, "conv_1")),
    # No usable id is none.
    ("get", "/responses/resp_%FF", Match(FETCH, None)),
    ("get", "/responses/resp_%0A", Match(FETCH, None)),
    ("get", "/responses/" + "x" * 1025, Match(FETCH, None)),
    # What applications pass to client.post() themselves.
    ("post", "chat/completions", Match(CHAT, None)),
    ("post", "/responses/", Match(RESPONSES, None)),
    ("post", "/responses?api-version=2024", Match(RESPONSES, None)),
    ("post", "/chat/completions#top", Match(CHAT, None)),
    ("post", "https://example.org/v1/chat/completions", Match(CHAT, None)),
    ("post", "https://example.org/openai/deployments/mine/chat/completions?api-version=1", Match(CHAT, None)),
    ("post", "https://example.org/v1/responses", Match(RESPONSES, None)),
    ("get", "https://example.org/v1/responses/resp_1", Match(FETCH, "resp_1")),
    ("post", "https://example.org/v1/responses/resp_1/cancel", Match(CANCEL, "resp_1")),
]

NOT_OURS = [
    ("get", "/chat/completions"),
    ("get", "/chat/completions/chatcmpl-1"),
    ("post", "/chat/completions/chatcmpl-1"),
    ("get", "/responses"),
    ("delete", "/responses/resp_1"),
    ("get", "/responses/resp_1/input_items"),
    ("post", "/responses/resp_1"),
    ("post", "/responses/resp_1/other"),
    ("post", "/responses/input_tokens"),
    ("post", "/completions"),
    ("post", "/embeddings"),
    ("get", "/models"),
    ("post", "/threads/t/runs"),
    ("get", "/evals/responses"),
    ("post", "https://example.org/v1/embeddings"),
    ("get", "/conversations"),
    ("get", "/conversations/conv_1"),
    ("post", "/conversations/conv_1"),
    ("delete", "/conversations/conv_1"),
    ("get", "/conversations/conv_1/items/msg_1"),
    ("delete", "/conversations/conv_1/items/msg_1"),
    ("post", "/conversations//items"),
    ("post", ""),
]


@pytest.mark.parametrize(("method", "url", "match"), OURS)
def test_what_becomes_a_span_or_tells_of_sessions(method, url, match):
    assert find(method, url) == match


@pytest.mark.parametrize(("method", "url"), NOT_OURS)
def test_what_passes_through(method, url):
    assert find(method, url) is None


@given(method=st.sampled_from(["get", "post", "PUT", ""]), url=st.text(alphabet="/responsechatmpl.?#:_", max_size=40))
def test_any_url_has_a_route_or_none(method, url):
    match = find(method, url)
    assert match is None or match.response_id != ""


@given(id_=st.text(alphabet="abcXYZ019_-+=/%? ü", min_size=1, max_size=250))
def test_any_id_is_read_from_the_path(id_):
    url = path_template("/responses/{id}", id=id_)
    assert find("get", url) == Match(FETCH, id_ if id_.strip() else None)
