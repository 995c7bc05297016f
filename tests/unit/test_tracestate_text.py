"""The ``tracestate`` of a root as text: bounded when it is kept, checked when it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.span import TraceState

from otel_llm_sessions.sessions.tracestate import MAX_STATE, state_of, state_text

keys = st.from_regex(r"[a-z][a-z0-9_*/-]{0,20}", fullmatch=True)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",="), min_size=1)
states = st.dictionaries(keys, values, max_size=32).map(lambda entries: TraceState(list(entries.items())))


@given(states)
def test_what_is_kept_is_read_back_as_far_as_it_fits(state):
    text = state_text(state)
    assert len(text) <= MAX_STATE
    kept = dict(state_of(text) or {})
    assert kept.items() <= dict(state).items()
    if len(state.to_header()) <= MAX_STATE:
        assert kept == dict(state)


def test_long_entries_are_the_first_to_go():
    state = TraceState([("long", "x" * 200), ("ot", "th:8"), *((f"v{number}", "y" * 100) for number in range(4))])
    assert list(state_of(state_text(state)) or ()) == ["ot", "v0", "v1", "v2", "v3"]


WRONG = {
    "no entry": "x",
    "a capital": "Ot=th:8",
    "two of a kind": "a=1,a=2",
    "a control character": "a=1\x07",
    "a NUL": "a=\0",
    "not ASCII": "a=é",
    "a lone surrogate": "a=\ud800",
    "too long": "a=" + "x" * 300,
    "too long in all": ",".join(f"v{number}={'x' * 60}" for number in range(9)),
    "too many": ",".join(f"v{number}=1" for number in range(33)),
    "empty": "",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_tracestate_is_none_and_nothing_is_logged(text, caplog):
    assert state_of(text) is None
    assert not caplog.records


@given(st.text(max_size=80))
def test_whatever_a_stranger_writes_is_a_tracestate_or_none(text):
    state = state_of(text)
    assert state is None or all(" " not in key for key in state)
