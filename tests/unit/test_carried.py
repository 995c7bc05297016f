"""What travels through the provider is read back as it was written, or as not there."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import flags, states

from otel_llm_sessions.openai.carried import MAX_VALUE, Carried, read, write
from otel_llm_sessions.sessions.link import SessionId, SessionTrace, Source, SpanRef
from otel_llm_sessions.sessions.tracestate import state_text

trace_ids = st.integers(1, (1 << 128) - 1)
span_ids = st.integers(1, (1 << 64) - 1)
times = st.integers(1, 10**19 - 1)
counts = st.integers(1, 10**9 - 1)
session_ids = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=256).map(SessionId)
traces = st.builds(SessionTrace, trace_ids, span_ids, flags, counts, times, counts, states)
carrieds = st.builds(
    Carried,
    st.none() | session_ids,
    st.builds(SpanRef, trace_ids, span_ids, flags),
    st.sampled_from(get_args(Source)),
    counts,
    times,
    st.none() | traces,
    st.just(""),
).filter(lambda carried: carried.session_id is None or (carried.source, carried.turn) != ("new", 1))


@given(carrieds)
def test_what_is_written_is_read_back_and_fits_the_api(carried):
    values = write(carried)
    assert read(values) == carried
    assert all(len(name) <= 64 and 0 < len(value) <= MAX_VALUE for name, value in values.items())


@given(session_ids)
def test_a_session_without_a_span_travels_alone(session_id):
    values = write(Carried(session_id, None))
    assert values == {"session.id": session_id}
    assert read(values) == Carried(session_id, None)


def test_a_value_that_is_too_long_is_left_out():
    assert write(Carried(SessionId("x" * (MAX_VALUE + 1)), None)) == {}


@given(carrieds.filter(lambda carried: carried.trace is not None))
def test_of_a_long_tracestate_as_much_is_sent_as_the_api_takes(carried):
    entries = {f"v{number}": "x" * 30 for number in range(13)}
    state = state_text({"ot": "th:8", **entries})
    read_back = read(write(carried._replace(trace=carried.trace._replace(state=state))))
    assert read_back.turn == carried.turn
    assert state.startswith(read_back.trace.state)
    assert 0 < len(read_back.trace.state) < len(state)


odd = st.none() | st.integers() | st.text(max_size=80) | st.lists(st.text(max_size=3), max_size=2)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("session.id", "traceparent", "tracestate"), odd)))
def test_garbage_is_not_there(values):
    carried = read(values)
    assert carried.source is None
    assert carried.trace is None


@given(carrieds, session_ids)
def test_beside_a_first_turn_that_names_its_session_itself_no_id_is_its_sessions(carried, own):
    values = write(carried._replace(session_id=None, source="new", turn=1))
    assert read({**values, "session.id": own}).session_id is None


@given(carrieds, session_ids)
def test_the_session_is_told_from_what_the_application_calls_one(carried, own):
    values = write(carried._replace(session_id=None, turn=2))
    assert read({**values, "session.id": own, "llm_session.id": "S"}).session_id == "S"


@given(carrieds, st.data())
def test_an_entry_that_was_changed_is_read_as_something_valid_or_nothing(carried, data):
    values = write(carried)
    state = values["tracestate"]
    place = data.draw(st.integers(0, len(state) - 1))
    changed = state[:place] + data.draw(st.sampled_from("0;-x,= ")) + state[place + 1 :]
    result = read({**values, "tracestate": changed})
    assert result.span == carried.span
    assert result.turn is None or result.turn >= 1


def test_another_vendors_state_and_a_newer_version_are_ignored():
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    for state in ("vendor=1;new;1;5", "llm_session=2;new;1;5", "llm_session=1;nobody;1;5"):
        assert read({"traceparent": parent, "tracestate": state}).source is None


@pytest.mark.parametrize("state", ["Ä=1", "a=1,a=2", "a=\0", "Ot=th:8"], ids=ascii)
def test_what_is_no_tracestate_is_not_there_and_nothing_is_logged(caplog, state):
    assert read({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": state}).span is not None
    assert not caplog.records


@pytest.mark.parametrize("value", ["x" * 300, "  ", "a\nb", "", None, True, ["x"]])
def test_what_the_sender_ignored_names_nothing_in_the_process_that_looks_it_up(value):
    assert read({"session.id": value}).session_id is None
    assert read({"llm_session.id": value, "session.id": "S"}).session_id == "S"


KEY = "a secret of the processes"


@given(carrieds)
def test_with_a_key_it_is_sealed_and_read_by_whoever_has_the_key_or_asks_for_none(carried):
    values = write(carried, KEY)
    assert read(values, KEY) == read(values) == carried
    assert all(len(value) <= MAX_VALUE for value in values.values())


@given(carrieds)
def test_without_the_right_seal_only_the_sessions_id_is_believed(carried):
    for values in (write(carried), write(carried, "another")):
        assert read(values, KEY) == Carried(carried.session_id, None)


@given(carrieds, carrieds, st.sampled_from(["session.id", "traceparent", "tracestate"]))
def test_of_two_that_are_sealed_no_third_can_be_made(carried, other, name):
    mine, others = write(carried, KEY), write(other, KEY)
    if mine.get(name) == others.get(name):
        return
    read_back = read({**mine, name: others.get(name)}, KEY)
    assert read_back.span is None or read_back in (carried, other), "nobody has sealed that"
