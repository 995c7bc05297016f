"""How random an id is taken to be."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.randomness import EVIDENCE_BITS, UNIQUE_BITS, bits_of

ECHOED = Path(__file__).parent.parent / "data" / "echoed_ids.jsonl"
"""1,061 sets of ids that applications echo, shaped as real servers shape them, with what they are worth."""

OPENAI = "resp_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"


def worth(ids: list[str]) -> str:
    bits = max(map(bits_of, ids))
    return "unique" if bits >= UNIQUE_BITS else "short" if bits >= EVIDENCE_BITS else "weak"


def test_ids_of_real_servers_are_worth_what_they_are():
    sets = [json.loads(line) for line in ECHOED.read_text().splitlines()]
    found = [(one["expected"], worth(one["ids"])) for one in sets]
    assert sum(got != "weak" for _, got in found) >= 985
    assert {got for expected, got in found if expected == "weak"} == {"weak"}
    assert sum(expected == got for expected, got in found) >= 1_050


def wrapped(id_: str) -> str:
    inner = f"litellm:custom_llm_provider:openai;model_id:m;response_id:{id_}"
    return "resp_" + base64.b64encode(inner.encode()).decode()


COUNTED = [
    "",
    "0",
    "resp_1",
    "chatcmpl-150",
    "functions.add:0",
    "functions.getWeatherForTheCityByItsNameV2:12",
    "0" * 40,
    "call_" + "1" * 40,
    "resp_0100000000000000000000000000000000000000000000000",
    "resp_00000000000000000000000000000012",
    "resp_0123456789abcdef0123456789abcdef",
    "resp_" + "ab" * 30,
    "tenant-a.test:80:resp_123",
    wrapped("resp_12"),
]

TIMES = [
    "1732612345",
    "1732612345678-1",
    "chatcmpl-1732612345678901234",
    "20261126153012345678",
    "session20261126T153012Z",
    "chat-2026-11-26T15:30:12.123Z",
    "customer@example.com:2026-11-26",
    "a-session-of-the-support-team/face17326123459876540271",
]

WORDS = [
    "conversation-of-the-support-team-with-a-customer-about-a-refund",
    "getWeatherForecastByName",
    "tenant-42-conversation-17-message-99",
    "gpt-4o-mini-2024-07-18-run-12",
    "FetchHtmlPageContentByName",
    "runSqlQuery4OnWarehouse2",
]


@pytest.mark.parametrize("id_", COUNTED + TIMES + WORDS)
def test_counts_dates_words_and_fixed_prefixes_are_worth_nothing_much(id_):
    assert bits_of(id_) < (UNIQUE_BITS if "0123456789" in id_ else EVIDENCE_BITS)
    assert bits_of(id_) < UNIQUE_BITS


@pytest.mark.parametrize(
    "id_",
    [
        OPENAI,
        "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "conv_689667905b048191b4740501625afd940c7533ace33a2dab",
        "01JDM4Z6Q2W7Y8X9V0T1S2R3P4",
        "gen-1732612345-AbCdEfkj29KlmQrSt0xY",
        wrapped(OPENAI),
    ],
)
def test_long_random_ids_are_one_of_a_kind(id_):
    assert bits_of(id_) >= UNIQUE_BITS


def test_hardly_a_random_id_is_taken_for_one_that_is_made_of_words():
    draw = random.Random(7).choices
    ids = ["call_" + "".join(draw(string.ascii_letters + string.digits, k=24)) for _ in range(20_000)]
    assert sum(bits_of(id_) < UNIQUE_BITS for id_ in ids) < 20


@given(st.uuids(version=4), st.sampled_from(["{}", "resp_{}", "chat:{}"]))
def test_uuids_are_one_of_a_kind_however_they_are_written(id_: uuid.UUID, form: str):
    for text in (str(id_), id_.hex, str(id_).upper()):
        assert bits_of(form.format(text)) >= UNIQUE_BITS


@given(st.integers(0, 10**12 - 1), st.text(string.ascii_lowercase, max_size=30), st.sampled_from("_-:./"))
def test_no_count_is_one_of_a_kind_whatever_word_stands_before_it(count: int, word: str, between: str):
    assert bits_of(f"{word}{between}{count}") < EVIDENCE_BITS
    assert bits_of(f"{word}{between}{count:050}") < EVIDENCE_BITS + 30


@given(st.text(max_size=1024))
def test_any_text_has_an_estimate(text: str):
    assert 0 <= bits_of(text)


def test_longer_random_ids_are_worth_more():
    draw = random.Random(7)
    characters = string.ascii_letters + string.digits
    by_length = [bits_of("".join(draw.choices(characters, k=length))) for length in (8, 16, 24, 32)]
    assert by_length == sorted(by_length)
    assert by_length[0] < UNIQUE_BITS <= by_length[1]
