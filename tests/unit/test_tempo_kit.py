"""What stands for Tempo in tests answers as the real one did."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

import pytest
from tempo_kit import FOLDER, INDEX, answer_to, emulated, recorded, recorded_traces, request_of

SEARCHES = [number for number, one in enumerate(INDEX, 1) if "/api/search?" in one["request"] and one["status"] == 200]
TRACES = [number for number, one in enumerate(INDEX, 1) if "/traces/" in one["request"]]


def asked(url: str, number: int) -> tuple[int, bytes]:
    path, said = request_of(number)
    try:
        with urllib.request.urlopen(f"{url}{path}?{urlencode(said)}") as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def told(answer: Any, known: set[str]) -> dict[str, Any]:
    """What an answer to a search tells of traces that are known, in no order."""
    return {
        trace["traceID"]: (
            trace["spanSets"][0]["matched"],
            {
                span["spanID"]: {
                    **{name: value for name, value in span.items() if name != "attributes"},
                    **{pair["key"]: pair["value"] for pair in span.get("attributes", ())},
                }
                for span in trace["spanSets"][0]["spans"]
            },
        )
        for trace in answer["traces"]
        if trace["traceID"].zfill(32) in known
    }


def without_metrics(body: bytes) -> Any:
    """How much Tempo read for an answer is its own affair."""
    return {name: said for name, said in json.loads(body).items() if name != "metrics"} if body else None


@pytest.mark.parametrize("number", SEARCHES)
def test_a_search_is_answered_as_the_real_one_answered_it(number):
    known = {one["request"].rpartition("/")[2] for one in INDEX[10:21]}
    with emulated(recorded_traces()) as served:
        status, body = asked(served.url, number)
    assert status == 200
    assert told(json.loads(body), known) == told(answer_to(number), known)


@pytest.mark.parametrize("number", TRACES)
def test_a_trace_is_answered_as_the_real_one_answered_it(number):
    with emulated(recorded_traces()) as served:
        status, body = asked(served.url, number)
    assert status == INDEX[number - 1]["status"]
    assert without_metrics(body) == without_metrics((FOLDER / INDEX[number - 1]["file"]).read_bytes())


def test_a_bad_query_is_refused_in_the_same_words():
    with emulated([]) as served, recorded() as real:
        (status, body), (other, text) = asked(served.url, 8), asked(real.url, 8)
    assert status == other == 400
    assert body[:36] == text[:36] and body.endswith(b"unexpected $end") and text.endswith(b"unexpected $end")


@pytest.mark.parametrize("number", range(1, len(INDEX) + 1))
def test_what_was_recorded_is_answered_byte_for_byte(number):
    with recorded() as served:
        status, body = asked(served.url, number)
    assert (status, len(body)) == (INDEX[number - 1]["status"], INDEX[number - 1]["bytes"])


def test_what_was_not_recorded_is_refused():
    with recorded() as served, pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{served.url}/api/search?q=%7B%7D&limit=50")
