"""What counts as a session id, and where the context names one."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openinference.instrumentation import using_session
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current, set_value
from opentelemetry.util.genai._conversation_context import with_conversation_id

from otel_llm_sessions import current_session, session
from otel_llm_sessions.sessions.sources import (
    MAX_LENGTH,
    OPENINFERENCE_CONTEXT_KEY,
    SESSION_CONTEXT_KEY,
    Given,
    first_given,
    first_id,
    from_baggage,
    from_context,
    session_id_of,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(ANYTHING)
def test_whatever_comes_an_id_is_a_printable_string_of_1_to_256_characters(value):
    id_ = session_id_of(value)
    if id_ is not None:
        assert type(id_) is str
        assert 1 <= len(id_) <= MAX_LENGTH
        assert id_.isprintable()
        assert id_.strip()


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=MAX_LENGTH))
def test_a_printable_string_is_taken_as_it_is(value):
    assert session_id_of(value) == value


@given(st.integers(-(10**20), 10**20))
def test_a_number_is_taken_as_its_digits(value):
    assert session_id_of(value) == str(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, False, b"x", object(), "\x00", " \t", 10**300])
def test_what_is_neither_is_not_taken(value):
    assert session_id_of(value) is None


def test_a_number_too_long_to_be_written_out_is_not_taken():
    assert session_id_of(10**5000) is None


def test_a_string_of_a_subclass_is_taken_as_a_string():
    from enum import Enum

    class Id(str):
        pass

    class Sessions(str, Enum):
        ONE = "one"

    assert session_id_of(Id("x")) == "x"
    assert type(session_id_of(Id("x"))) is str
    assert session_id_of(Sessions.ONE) == "one"
    with session(Sessions.ONE) as inside:
        assert (inside.id, current_session()) == ("one", inside)


def test_a_session_without_an_id_is_refused_in_short_whatever_it_is():
    class Unreadable:
        def __repr__(self) -> str:
            raise RuntimeError("not to be read")

    with pytest.raises(ValueError, match=r"^session\(.*Unreadable\) is not valid: expected a printable string"):
        session(Unreadable())
    with pytest.raises(ValueError, match=r"^session\('x{99}…\) is not valid"):
        session("x" * 10_000)


def test_an_ignored_value_is_logged_once_at_debug_without_the_value(caplog, nothing_reported):
    caplog.set_level(logging.DEBUG, "otel_llm_sessions")
    for _ in range(3):
        session_id_of("secret\n")
        session_id_of("another secret\n")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "secret" not in caplog.text
    assert "1 to 256" in caplog.text


@given(st.dictionaries(st.sampled_from("abcd"), ANYTHING), st.permutations("abcd"))
def test_the_first_usable_name_wins(values, names):
    expected = next((id_ for name in names if (id_ := session_id_of(values.get(name)))), None)
    assert first_id(values, names) == expected


@pytest.mark.parametrize("context", [Context(), Context({SESSION_CONTEXT_KEY: ""}), Context({"else": "x"})])
def test_a_context_that_names_none_gives_none(context):
    assert from_context(context) is None


def test_baggage_names_the_conversation_before_the_visit():
    context = baggage.set_baggage("session.id", "2", Context())
    assert from_baggage(context) == Given("2", "baggage")
    context = baggage.set_baggage("gen_ai.conversation.id", "1", context)
    assert from_baggage(context) == Given("1", "baggage")
    assert from_context(context) is None
    assert from_baggage(with_conversation_id("0", Context())) is None


def test_the_nearest_mechanism_in_the_context_wins():
    context = with_conversation_id("3", baggage.set_baggage("session.id", "4", Context()))
    assert from_context(context) == Given("3", "context")
    context = set_value(OPENINFERENCE_CONTEXT_KEY, "2", context)
    assert from_context(context) == Given("2", "context")
    context = set_value(SESSION_CONTEXT_KEY, "1", context)
    assert from_context(context) == Given("1", "context")


def test_properties_of_a_baggage_entry_are_no_part_of_the_id():
    context = W3CBaggagePropagator().extract({"baggage": "session.id=a%20b ; ttl=60;p, x=y"}, Context())
    assert from_baggage(context) == Given("a b", "baggage")


def test_the_key_is_the_one_that_openinference_uses():
    with using_session("x"):
        assert get_current().get(OPENINFERENCE_CONTEXT_KEY) == "x"


@given(ANYTHING, ANYTHING)
def test_odd_values_in_the_context_never_raise(one, two):
    context = Context({OPENINFERENCE_CONTEXT_KEY: one})
    context = baggage.set_baggage("session.id", two, context)
    given_, visit = from_context(context), from_baggage(context)
    assert (given_.session_id if given_ else None) == session_id_of(one)
    expected = session_id_of(two.partition(";")[0].strip() if isinstance(two, str) else two)
    assert (visit.session_id if visit else None) == expected


@given(st.dictionaries(st.sampled_from(["a", "b", "other"]), ANYTHING | st.text(max_size=2)))
def test_what_is_given_is_the_first_id_with_its_place(values):
    for _ in range(2):  # the second time from what is kept
        found = first_given(values, ("a", "b"), "body")
        assert found == ((id_, "body") if (id_ := first_id(values, ("a", "b"))) is not None else None)
        assert found is None or type(found.session_id) is str


def test_it_is_kept_with_its_place_and_made_once():
    said = {"a": "chat-42"}
    assert first_given(said, ("a",), "body") is first_given(dict(said), ("a",), "body")
    assert first_given(said, ("a",), "metadata") == ("chat-42", "metadata")


class Named(str):
    """A string of the application's own kind, that is nobody else's equal."""

    def __eq__(self, other):
        raise AssertionError("asked")

    __hash__ = None


def test_nothing_of_the_applications_is_kept_with_it():
    named, long = Named("chat-42"), "x" * (MAX_LENGTH + 1)
    gone = weakref.ref(named)
    assert first_given({"a": named}, ("a",), "body") == ("chat-42", "body")
    assert first_given({"a": long, "b": named}, ("a", "b"), "body") == ("chat-42", "body")
    del named
    gc.collect()
    assert gone() is None
