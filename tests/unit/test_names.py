"""What a session is named by where the application names none."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.names import (
    MAX_ID,
    conversation_of,
    id_of,
    is_made,
    name_of_conversation,
    name_of_response,
    returned_id_of,
)

UNIQUE = "resp_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"
LONG = "resp_" + hashlib.shake_256(b"x").hexdigest(232)


def test_a_response_that_is_one_of_a_kind_names_its_session_itself():
    assert name_of_response(UNIQUE, "a.test") == UNIQUE


def test_another_responses_name_says_its_server_and_is_another_one_each_time():
    names = {name_of_response("resp_1", "a.test:8080") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("resp_1@a.test:8080~") and len(name) == 27 for name in names)


def test_a_conversations_name_is_the_same_in_every_process():
    assert name_of_conversation("conv_1", "a.test") == "conv_1@a.test"
    assert name_of_conversation("conv_1", "b.test") == "conv_1@b.test"
    assert name_of_conversation(UNIQUE, "a.test") == UNIQUE


def test_a_long_ids_name_is_its_beginning_and_a_digest():
    expected = LONG[:24] + "~" + hashlib.sha256(LONG.encode()).hexdigest()[:32]
    assert name_of_response(LONG, "a.test") == name_of_conversation(LONG, "b.test") == expected
    assert name_of_response(LONG[:128], "a.test") == LONG[:128]


def test_a_name_that_is_made_too_long_is_shortened_and_still_one_of_a_kind():
    names = {name_of_response("resp_1", "a" * 200) for _ in range(10)}
    assert len(names) == 10
    assert {len(name) for name in names} == {24 + 1 + 32}
    assert name_of_conversation("conv_1", "a" * 200) != name_of_conversation("conv_1", "b" * 200)


@given(st.text(min_size=1, max_size=MAX_ID), st.text(min_size=1, max_size=300))
def test_names_are_bounded(id_, server):
    assert 0 < len(name_of_response(id_, server)) <= 128
    assert 0 < len(name_of_conversation(id_, server)) <= 128


def test_what_the_provider_called_a_conversation_is_told_from_its_name():
    for id_ in ("conv_1", UNIQUE, UNIQUE + "@a.test:1"):
        assert conversation_of(name_of_conversation(id_, "a.test"), "a.test") == id_
    assert conversation_of(name_of_conversation(LONG, "a.test"), "a.test") is None
    assert conversation_of(name_of_conversation("conv_1", "b.test"), "a.test") is None


@pytest.mark.parametrize("id_", ["resp_1", LONG])
def test_a_made_name_is_recognised(id_):
    assert is_made(name_of_response(id_, "a.test"))
    assert not is_made(id_)


@pytest.mark.parametrize(
    "value", ["", " ", "a\nb", "a\0b", "\x1b[31m", "\ud800", "x" * 1025, "ü" * 257, None, 7, b"x", {}]
)
def test_what_is_no_id_is_none(value):
    assert id_of(value) is None


@pytest.mark.parametrize("value", ["resp_1", "x" * 1024, "ü" * 256, "a b"])
def test_what_is_one_is_taken_as_it_is(value):
    assert id_of(value) == value


@given(st.text(max_size=3) | st.just(UNIQUE) | st.just(LONG) | st.just("resp_1\n") | st.integers() | st.none())
def test_an_id_that_comes_back_is_one_if_it_was_one_before(value):
    if id_of(value) is not None:
        name_of_response(value, "a.test")
    assert returned_id_of(value) == id_of(value)
    assert returned_id_of([value]) is None
