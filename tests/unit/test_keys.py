"""The keys under which a turn is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.keys import is_one_of_a_kind, response_key, session_key

OPENAI = "resp_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.mark.parametrize(
    "id_", ["chatcmpl-150", "resp_2", "call_0", "functions.add:0", "", "0" * 40, "call_" + "1" * 40]
)
def test_short_and_counted_ids_are_not_one_of_a_kind(id_):
    assert not is_one_of_a_kind(id_)


@pytest.mark.parametrize("id_", [OPENAI, "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "resp_bGl0ZWxsbTpjdXN0b21f" * 20])
def test_long_random_ids_are_one_of_a_kind(id_):
    assert is_one_of_a_kind(id_)


def test_an_id_that_is_one_of_a_kind_is_known_whichever_server_sent_it():
    assert response_key(OPENAI, "one:1") == response_key(OPENAI, "two:2")


def test_any_other_id_counts_for_its_own_server_only():
    assert response_key("resp_2", "one:1") != response_key("resp_2", "two:2")


@given(st.text(), st.text())
def test_keys_of_sessions_and_of_responses_are_never_the_same(one, two):
    assert session_key(one) != response_key(two, "server")
    assert (session_key(one) == session_key(two)) == (one == two)


@given(st.text(), st.text())
def test_two_ids_of_one_server_have_two_keys(one, two):
    assert (response_key(one, "127.0.0.1:80") == response_key(two, "127.0.0.1:80")) == (one == two)
