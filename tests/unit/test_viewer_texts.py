"""How the viewer's page writes values, cuts texts, draws the strip and sets turns in order."""

from __future__ import annotations

import pytest
from viewer_kit import SECOND, message, turn

from otel_llm_sessions import semconv
from otel_llm_sessions.view.server import texts
from otel_llm_sessions.view.server.addresses import checked_template, filled, web_address
from otel_llm_sessions.view.server.conversation import rows
from otel_llm_sessions.view.server.prose import blocks
from otel_llm_sessions.view.server.strip import WIDTH, strip_of
from otel_llm_sessions.view.sessions import sessions_of

MS = SECOND // 1000


@pytest.mark.parametrize(
    ("nanoseconds", "written"),
    [
        (-1, "0 ms"),
        (0, "0 ms"),
        (1, "<1 ms"),
        (812 * MS, "812 ms"),
        (1_204 * MS, "1.20 s"),
        (59_940 * MS, "59.9 s"),
        (60 * SECOND, "1 min"),
        (192 * SECOND, "3 min 12 s"),
        (3_600 * SECOND, "1 h"),
        (3_601 * SECOND, "1 h"),
        (7_500 * SECOND, "2 h 5 min"),
        (100 * 3_600 * SECOND, "4 d 4 h"),
    ],
)
def test_durations_are_written_in_the_units_that_matter(nanoseconds, written):
    assert texts.duration(nanoseconds) == written


@pytest.mark.parametrize("at", [0, -5, 2**63, 2**80])
def test_any_time_can_be_written(at):
    assert texts.machine_time(at).endswith("Z")
    assert texts.people_time(at).endswith("UTC")


def test_numbers_are_grouped_and_costs_have_the_digits_that_matter():
    assert texts.number(1234567) == "1,234,567"
    assert texts.number(None) == "\N{EN DASH}"
    assert texts.cost(0.000119, "USD") == "$0.000119"
    assert texts.cost(None, None) == ""


def test_what_cannot_be_seen_is_shown_as_a_picture():
    assert texts.visible("a\x1b[31m\x00\x7f\x9b\ud800\r\nb\tc") == "a␛[31m␀␡\ufffd\ufffd\nb\tc"
    plain = "plain ✓ \u202e"
    assert texts.visible(plain) is plain


def test_fences_are_code_and_the_rest_is_prose():
    found = blocks("Say `x` **now**:\n```python\nprint(1)\n```\nand\n~~~\nopen to the end")
    assert [(block.kind, block.language, block.text) for block in found] == [
        ("prose", "", "Say `x` **now**:"),
        ("code", "python", "print(1)"),
        ("prose", "", "and"),
        ("code", "", "open to the end"),
    ]
    pieces = [("plain", "Say "), ("code", "x"), ("plain", " "), ("strong", "now"), ("plain", ":")]
    assert list(found[0].pieces) == pieces


def test_json_is_laid_out_and_what_is_none_is_left_alone():
    assert blocks('{"a": [1]}')[0].text == '{\n  "a": [\n    1\n  ]\n}'
    for text in ("{not json", "[" * 100_000, "`" * 100_000, "**" * 100_000):
        assert "".join(block.text for block in blocks(text)) == text


@pytest.mark.parametrize("template", ["javascript:{trace_id}", "http://jaeger/", "{trace_id}", "file:///{trace_id}"])
def test_a_template_of_traces_addresses_is_checked(template):
    with pytest.raises(ValueError, match="is not valid: expected an address"):
        checked_template(template)


def test_ids_in_addresses_are_text():
    assert filled("http://j/{trace_id}?s={span_id}", "a/b", '"#') == "http://j/a%2Fb?s=%22%23"
    assert web_address("javascript:alert(1)") is None
    assert web_address("http://[broken") is None
    assert web_address("https://a.example/1") == "https://a.example/1"


def turns_of(*spans):
    return next(iter(sessions_of(spans)), None).turns


def order_of(*spans):
    return [(row.turn.number, row.branch, row.from_place) for row in rows(turns_of(*spans))]


def test_a_branch_stands_after_the_turn_that_it_goes_out_of_and_the_longest_line_goes_on():
    spans = [turn("s", 1), turn("s", 2, at=1, after=1), turn("s", 3, at=2, after=1), turn("s", 4, at=3, after=3)]
    assert order_of(*spans) == [(1, 0, 0), (2, 1, 1), (3, 0, 0), (4, 0, 0)]


def test_a_failed_try_is_no_branch_and_turns_without_links_are_none():
    spans = [turn("s", 1), turn("s", 2, at=1, after=1, error="timeout"), turn("s", 3, at=2, after=1)]
    assert [branch for _, branch, _ in order_of(*spans)] == [0, 0, 0]
    assert [branch for _, branch, _ in order_of(*(turn("s", number, at=number) for number in range(1, 5)))] == [0] * 4


def test_branches_of_branches_go_as_deep_as_they_like_and_each_turn_stands_once():
    spans = [turn("s", 1)]
    for number in range(2, 3_000, 2):
        before = number - 1
        spans += [turn("s", number, at=number, after=before), turn("s", number + 1, at=number + 1, after=before)]
    found = order_of(*spans)
    assert sorted(number for number, _, _ in found) == list(range(1, len(spans) + 1))


def test_what_a_history_repeats_is_left_out_but_never_what_is_new():
    said = [message("user", "one"), message("assistant", "two")]
    full = {semconv.LLM_SESSION_CONTENT: "full"}
    first = turn("s", 1, asked=said[:1], answered=said[1:], **full)
    again = turn("s", 2, at=1, after=1, asked=[*said, message("user", "three")], **full)
    other = turn("s", 3, at=2, after=2, asked=[message("user", "another"), message("user", "three")], **full)
    delta = turn("s", 4, at=3, after=3, asked=[message("user", "another")])
    found = rows(turns_of(first, again, other, delta))
    assert [row.earlier for row in found] == [0, 2, 0, 0]
    assert [len(row.input) for row in found] == [1, 1, 2, 1]


def test_the_strip_leaves_idle_time_out_and_sets_what_overlaps_apart():
    strip = strip_of(turns_of(turn("s", 1, took=1), turn("s", 2, at=0.5, took=1), turn("s", 3, at=3600, took=2)))
    assert [bar.lane for bar in strip.bars] == [0, 1, 0]
    assert strip.lanes == 2
    assert (strip.busy, strip.left_out) == (3_500 * MS, 3_598_500 * MS)
    ends = [bar.x + bar.width for bar in strip.bars]
    assert max(ends) <= WIDTH + 0.1
    assert strip.bars[2].x > ends[0]


@pytest.mark.parametrize("count", [2, 500, 5_000])
def test_the_strip_has_room_for_any_number_of_turns(count):
    strip = strip_of(turns_of(*(turn("s", number, at=number * 10.0) for number in range(1, count + 1))))
    assert len(strip.bars) == count
    assert all(bar.width > 0 for bar in strip.bars)
    assert max(bar.x + bar.width for bar in strip.bars) <= WIDTH + 0.1 * count / 100


def test_one_turn_needs_no_strip():
    assert strip_of(turns_of(turn("s", 1))) is None
