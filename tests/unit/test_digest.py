"""Keyed digests: the same for what says the same, of nothing that could be read from them."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.digest import DIGITS, MAX_JSON, Digests, canonical, digests_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4) | st.lists(JSON, max_size=4))
def test_however_json_is_written_its_digest_is_the_same(value):
    digests = Digests(None, "scope")
    known = digests.of_call("f", value)
    for written in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, ensure_ascii=False)):
        assert digests.of_call("f", written) == known


@given(st.dictionaries(st.text(), st.integers(), max_size=6))
def test_the_order_of_keys_says_nothing(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize("other", ['{"a": 2}', '{"b": 1}', '{"a": "1"}', '{"a": true}', '{"a": [1]}', "[1]", "{}", "a"])
def test_what_says_something_else_has_another_digest(other):
    digests = Digests(None, "scope")
    assert digests.of_call("f", other) != digests.of_call("f", '{"a": 1}')
    assert digests.of_call("g", other) != digests.of_call("f", other)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_where_a_text_ends_counts(one, other):
    digests = Digests("secret", "scope")
    assert (digests.of(*one) == digests.of(*other)) == (one == other)


@pytest.mark.parametrize("arguments", [None, "", "{}", " {} ", {}, "null"])
def test_no_arguments_are_an_empty_object(arguments):
    assert canonical(arguments) == "{}"


def test_a_number_is_the_same_with_and_without_its_fraction():
    assert canonical('{"a": 1.0, "b": 2.5}') == canonical({"a": 1, "b": 2.5}) == '{"a":1,"b":2.5}'


@pytest.mark.parametrize("text", ["{broken", "a word", "[" * 100_000, "1" * 5_000, '"\ud800"', "\ud800", "NaN"])
def test_what_is_no_json_has_a_digest_too(text):
    digests = Digests(None, "scope")
    assert len(digests.of_call("f", text)) == DIGITS
    assert digests.of_call("f", text) != digests.of_call("f", "{}")


def test_a_long_text_is_taken_as_it_is_written():
    written = json.dumps({"a": "x" * MAX_JSON})
    assert canonical(written) == written


@pytest.mark.parametrize("odd", [object(), {"a": object()}, {object(): 1}, [math.nan], b"{}"])
def test_what_nobody_sends_is_no_failure(odd):
    assert len(Digests(None, "scope").of_call("f", odd)) == DIGITS


def test_a_cycle_is_no_failure():
    cycle: list[object] = []
    cycle.append(cycle)
    assert canonical(cycle) == "<list>"


def test_a_key_wins_over_the_scope_and_neither_stands_for_the_other():
    assert Digests("k", "one").of("x") == Digests("k", "two").of("x") != Digests("l", "one").of("x")
    assert Digests(None, "k").of("x") != Digests("k", "k").of("x")
    assert Digests(None, "one").of("x") != Digests(None, "two").of("x")
    assert digests_of("k", "one") is digests_of("k", "one")
