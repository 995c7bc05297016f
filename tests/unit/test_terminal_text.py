"""Texts of spans on a terminal, and numbers, times and tables as people read them."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from otel_llm_sessions.view.summaries import Summary
from otel_llm_sessions.view.terminal.facts import beginning, both_ends, duration_shown, moment_cut, moment_shown
from otel_llm_sessions.view.terminal.printable import escaped, json_text, printable, printable_lines
from otel_llm_sessions.view.terminal.table import table

NOON = 1_769_860_800_000_000_000


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("refund 42", "refund 42"),
        ("Ärger 你好 👩\u200d🚀 می\u200cخواهم", "Ärger 你好 👩\u200d🚀 می\u200cخواهم"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\nb\r\tc\x7f\x85", "a\\nb\\r\\tc\\x7f\\x85"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eabc\u2066\u200e\u2028", "\\u202eabc\\u2066\\u200e\\u2028"),
        ("\ud800 \U000e0041 \ufeff", "\\ud800 \\U000e0041 \\ufeff"),
        ("a\u00a0b", "a b"),
        (5, "5"),
        (("a", None), "('a', None)"),
    ],
    ids=str,
)
def test_what_would_do_something_is_shown_instead(said, shown):
    assert printable(said) == shown


@given(st.text())
def test_nothing_that_is_printed_moves_a_cursor_or_turns_around(said):
    for line in (printable(said), *printable_lines(said)):
        assert not [char for char in line if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp", "Co", "Cn")]
        assert {char for char in line if unicodedata.category(char) == "Cf"} <= {"\u200c", "\u200d"}


def test_words_keep_their_lines():
    assert printable_lines("a\r\nb\n\tc\x85d\u2028e\x1b") == ["a", "b", "    c", "d", "e\\x1b"]


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(st.text() | finite | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_plain_ascii_and_says_the_same(value):
    for indent in (None, 2):
        text = json_text(value, indent)
        assert re.fullmatch(r"[\x20-\x7e\n]*", text)
        assert indent or "\n" not in text
        assert json.loads(text) == value


def test_what_json_has_no_number_for_is_null():
    assert json_text({"a": [float("nan"), 1.5, {"b": float("-inf")}], "c": (float("inf"),)}) == (
        '{"a": [null, 1.5, {"b": null}], "c": [null]}'
    )


def test_json_that_is_not_ascii_becomes_so():
    text = '{"a":"é\x7f😀\u202e","b":"\\n"}'
    assert escaped(text) == '{"a":"\\u00e9\\u007f\\ud83d\\ude00\\u202e","b":"\\n"}'
    assert json.loads(escaped(text)) == json.loads(text)


# ---------------------------------------------------------------- numbers, times, widths


def test_times_are_the_readers_and_leave_a_day_out_that_was_said():
    assert moment_shown(NOON) == "2026-01-31 12:00:00"
    assert moment_shown(NOON + 1_500_000_000, after=NOON) == "12:00:01"
    assert moment_shown(NOON + 86_400_000_000_000, after=NOON) == "2026-02-01 12:00:00"
    assert [moment_shown(odd) for odd in (0, -5, 1 << 70, 1 << 200)] == ["", "", moment_shown(1 << 70), ""]
    assert moment_cut("2026-01-31 12:00:00", 15) == "01-31 12:00"


def test_times_are_of_the_readers_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert moment_shown(NOON) == "2026-01-31 21:00:00"


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (-1, "0 ms"),
        (96_400_000, "96 ms"),
        (1_204_000_000, "1.20 s"),
        (200_000_000_000, "3 min 20 s"),
        (7_500_000_000_000, "2 h 5 min"),
    ],
)
def test_durations_are_as_long_as_they_are_read(nanoseconds, shown):
    assert duration_shown(nanoseconds) == shown


@given(st.text(st.characters(categories=("L", "N", "P", "So"))), st.integers(1, 40))
def test_what_is_cut_fits(text, width):
    assert cell_len(beginning(text, width)) <= width
    assert cell_len(both_ends(text, width)) <= width


# ---------------------------------------------------------------- the table


def summary(id="s-1", **said):
    return Summary(id=id, turns=said.pop("turns", 2), first=NOON, last=NOON + 90_000_000_000, **said)


FULL = summary(
    "resp_" + "x" * 90,
    name="refund of a long order",
    user="user@example.com",
    models=("gpt-4o-mini", "gpt-4o-2024-08-06"),
    input_tokens=1234567,
    output_tokens=89,
    cost=1234.5,
    currency="USD",
    errors=1,
)


def lines(sessions, width):
    return table(sessions, width).plain.split("\n")


def test_columns_that_nobody_has_a_value_for_are_left_out():
    assert lines([summary(), summary("s-20", models=("m",))], 200) == [
        "id    turns  models  first                last",
        "s-1       2          2026-01-31 12:00:00  2026-01-31 12:01:30",
        "s-20      2  m       2026-01-31 12:00:00  2026-01-31 12:01:30",
    ]


def test_all_that_is_known_stands_in_a_row():
    assert lines([FULL], 1_000) == [
        f"{'id':95}  name                    user              turns  models                                 "
        "in  out       cost  errors  first                last",
        f"{FULL.id}  refund of a long order  user@example.com      2  gpt-4o-mini, gpt-4o-2024-08-06"
        "  1,234,567   89  $1,234.50       1  2026-01-31 12:00:00  2026-01-31 12:01:30",
    ]


@pytest.mark.parametrize("width", [160, 130])
def test_what_does_not_fit_is_shortened(width):
    head, row = lines([FULL], width)
    assert max(len(head), len(row)) <= width
    assert row.startswith("resp_x")
    assert "1,234,567   89  $1,234.50       1  01-31 12:00  01-31 12:01" in row


def test_on_a_narrower_terminal_the_first_time_is_left_out():
    head, row = lines([FULL], 100)
    assert "first" not in head
    assert row.endswith("01-31 12:01")
    assert max(len(head), len(row)) <= 100


def test_on_a_narrow_terminal_sessions_are_a_few_lines_each():
    assert lines([FULL, summary()], 40) == [
        "resp_xxxxxxxxxxxxxx…xxxxxxxxxxxxxxxxxxx",
        "  refund of a long order",
        "  of user@example.com  2 turns",
        "  gpt-4o-mini, gpt-4o-2024-08-06",
        "  1,234,567 → 89 tokens  $1,234.50",
        "  1 failed",
        "  2026-01-31 12:00:00 to 12:01:30",
        "",
        "s-1",
        "  2 turns",
        "  2026-01-31 12:00:00 to 12:01:30",
    ]


@given(st.integers(1, 200))
def test_every_width_is_kept(width):
    widths = [cell_len(line) for line in lines([FULL, summary("你" * 60)], width)]
    assert 0 < max(widths) <= max(width, 3)
