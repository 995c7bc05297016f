"""Whatever arrives, and however: sessions are read from it, and always the same ones."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from exports_kit import load_all
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from view_kit import any_log, any_span, attributes, values

from otel_llm_sessions.view.cut_json import read_beginning
from otel_llm_sessions.view.json_form import session_json
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.terminal.tree import trees
from otel_llm_sessions.view.words import asked_in, words_in

any_spans = st.lists(any_span, max_size=12)
any_logs = st.lists(any_log, max_size=3)


def told(spans: Any, logs: Any = ()) -> str:
    """All that is said of the sessions."""
    sessions = sessions_of(spans, logs)
    more = [
        (session.aliases, session.parents, session.children, session.services, session.parts, session.costs)
        + tuple((one.name, one.score, one.turn and one.turn.span_id) for one in session.evaluations)
        + tuple(
            (turn.follows and turn.follows.span_id, turn.request and turn.request.span_id) for turn in session.turns
        )
        + tuple((turn.notices, turn.error_text, turn.first_chunk, turn.currency) for turn in session.turns)
        for session in sessions
    ]
    written = json.dumps([session_json(session) for session in sessions], allow_nan=False)
    return f"{written}\n{more!r}"


@given(any_spans, any_logs, st.data())
@pytest.mark.slow
def test_order_and_repetition_change_nothing_and_nothing_raises(spans, logs, data):
    again = data.draw(st.lists(st.sampled_from(spans), max_size=6)) if spans else []
    shuffled = data.draw(st.permutations([*spans, *again]))
    assert told(shuffled, data.draw(st.permutations([*logs, *logs]))) == told(spans, logs)


@given(any_spans, any_logs)
@settings(max_examples=10)
def test_whatever_arrives_is_drawn(spans, logs):
    sessions, shown = sessions_of(spans, logs), io.StringIO()
    drawn = list(trees(sessions))
    for tree in drawn:
        Console(file=shown, width=200).print(tree)
    assert len(drawn) == len(sessions)
    assert shown.getvalue().count("\n") >= sum(1 + len(session.turns) for session in sessions)


@pytest.fixture(scope="module")
def recorded() -> Any:
    exports = load_all()
    spans = [span for export in exports for span in export.spans]
    logs = [log for export in exports for log in export.logs]
    return spans, logs, told(spans, logs)


@given(data=st.data())
@settings(max_examples=10)
def test_recorded_exports_may_come_in_any_order_and_more_than_once(recorded, data):
    spans, logs, expected = recorded
    random = data.draw(st.randoms(use_true_random=False))
    spans = [*spans, *random.sample(spans, 40)]
    random.shuffle(spans)
    assert told(spans, logs) == expected


@given(attributes, st.sampled_from(["gen_ai.input.messages", "gen_ai.output.messages"]), values)
def test_any_content_is_read_as_far_as_it_goes(said, name, value):
    words_in({**said, name: value}, name)
    asked_in({**said, name: value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4), st.data(), st.booleans())
def test_json_that_is_cut_anywhere_begins_as_the_whole_does(value, data, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    cut = data.draw(st.integers(0, len(text)))
    assert begins(read_beginning(text[:cut]), value)
    assert read_beginning(text) == value


def begins(part: Any, whole: Any) -> bool:
    """Whether a value is the beginning of another."""
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, list) and isinstance(whole, list):
        *all_but_last, last = part or [None]
        return not part or (all_but_last == whole[: len(part) - 1] and begins(last, whole[len(part) - 1]))
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(begins(each, whole[key]) for key, each in part.items())
    return part is None or part == whole


@given(st.text(alphabet='[]{}",:\\u0aé1tnull ', max_size=40))
def test_whatever_is_read_as_cut_json_does_not_raise(text):
    read_beginning(text)
