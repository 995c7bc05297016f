"""The dashboard that ``examples/grafana`` has: every query of it, asked of spans; what Grafana needs to show it."""

from __future__ import annotations

import copy
import json
import re
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from exports_kit import load, load_all
from tempo_kit import (
    INDEX,
    Limits,
    answer_to,
    emulated,
    groups_of,
    measured,
    recorded,
    recorded_traces,
    request_of,
    target_of,
)
from traceql_kit import BadQuery, parsed

from otel_llm_sessions import semconv

DASHBOARD = json.loads((Path(__file__).parents[2] / "examples/grafana/llm-sessions.json").read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ATTRIBUTES = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
INTRINSICS = {"status", "duration"}
SEARCHES = sorted(title for title, panel in PANELS.items() if panel["type"] == "table")
METRICS = sorted(set(PANELS) - set(SEARCHES))
CALLS = ("chat", "text_completion", "generate_content", "compact")
ALL_TIME = {"start": "0", "end": str(10**10)}


def regex(*chosen: str) -> str:
    """What Grafana makes of ``${session:regex}``: with "All" chosen, what the variable says that this is."""
    if not chosen:
        return VARIABLES["session"]["allValue"]
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", lambda sign: "\\" + sign[0], value) for value in chosen]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def query_of(title: str, *chosen: str) -> str:
    (target,) = PANELS[title]["targets"]
    return target["query"].replace("${session:regex}", regex(*chosen))


@cache
def spans(*names: str) -> list[dict[str, Any]]:
    exports = [load(name) for name in names] if names else load_all()
    return groups_of(message for export in exports for message in export.traces)


def rows_of(title: str, groups: list[dict[str, Any]], *chosen: str) -> list[dict[str, Any]]:
    """The rows of a table: the attributes of each span that its query finds."""
    (target,) = PANELS[title]["targets"]
    said = {"q": query_of(title, *chosen), "limit": target["limit"], "spss": target["spss"]}
    with emulated(groups, Limits(most_hours=10**7)) as tempo:
        answer = json.load(urllib.request.urlopen(f"{tempo.url}/api/search?{urlencode({**ALL_TIME, **said})}"))
    return [
        {"trace": trace["traceID"]}
        | {pair["key"]: next(iter(pair["value"].values())) for pair in span.get("attributes", ())}
        for trace in answer["traces"]
        for span_set in trace["spanSets"]
        for span in span_set["spans"]
    ]


def calls_in(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Attributes of the spans that are a session's calls of a model, with ``failed`` and their seconds."""
    found = []
    for span in (span for group in groups for scoped in group["scopeSpans"] for span in scoped["spans"]):
        said = {pair["key"]: next(iter(pair["value"].values()), None) for pair in span.get("attributes", ())}
        if said.get(semconv.OPERATION_NAME) in CALLS and semconv.SESSION_ID in said:
            seconds = (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9
            failed = span.get("status", {}).get("code") == "STATUS_CODE_ERROR"
            found.append(said | {"failed": failed, "seconds": seconds})
    return found


@pytest.mark.parametrize("title", sorted(PANELS))
def test_a_query_is_traceql_that_looks_at_spans_and_asks_for_what_spans_have(title):
    query = parsed(query_of(title))
    names = [name for name in {*query.fields, *query.selected} if name not in INTRINSICS]
    assert names
    for name in names:
        scope, _, attribute = name.partition(".")
        assert scope == "span", name
        assert attribute in ATTRIBUTES, name
    assert bool(query.measure) == (title in METRICS)
    assert "| count()" not in query_of(title) and ">>" not in query_of(title)


@pytest.mark.parametrize("title", SEARCHES)
def test_what_a_table_gives_names_to_is_what_it_asked_for(title):
    query = parsed(query_of(title))
    selected = {name.partition(".")[2] for name in query.selected}
    named = {one["matcher"]["options"] for one in PANELS[title]["fieldConfig"]["overrides"]}
    assert named <= selected
    assert semconv.SESSION_ID in named
    (organize,) = PANELS[title]["transformations"]
    columns = {"time", "name", "duration", "status", "traceName", "Start time", "Name", "Duration", "Trace Name"}
    assert {*organize["options"]["excludeByName"], *organize["options"]["indexByName"]} <= selected | columns


def test_the_table_of_sessions_has_each_session_once():
    groups = spans("explicit", "chain", "failed", "nested", "parts", "who_and_what")
    rows = rows_of("Sessions", groups)
    known = {call[semconv.SESSION_ID] for call in calls_in(groups)}
    assert sorted(row[semconv.SESSION_ID] for row in rows) == sorted(known)
    (named,) = [row for row in rows if semconv.LLM_SESSION_NAME in row]
    assert {semconv.USER_ID, semconv.LLM_SESSION_TAGS, semconv.LLM_SESSION_SOURCE} <= set(named)


def test_the_table_of_turns_has_each_call_of_a_session_once():
    groups = spans()
    assert {row[semconv.SESSION_ID] for row in rows_of("Turns", groups)} == {
        call[semconv.SESSION_ID] for call in calls_in(groups)
    }
    nested = spans("nested", "mixed_places")
    turns = [(row[semconv.SESSION_ID], int(row[semconv.LLM_SESSION_TURN])) for row in rows_of("Turns", nested)]
    assert len(turns) == len(calls_in(nested))


def failing(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nested turns as they are told when they fail: the call and its marker both say so."""
    failed = copy.deepcopy(groups)
    for span in (span for group in failed for scoped in group["scopeSpans"] for span in scoped["spans"]):
        if any(pair["key"] == semconv.LLM_SESSION_TURN for pair in span.get("attributes", ())):
            span["status"] = {"code": "STATUS_CODE_ERROR"}
            span["attributes"].append({"key": semconv.ERROR_TYPE, "value": {"stringValue": "timeout"}})
    return failed


@pytest.mark.parametrize("groups", [spans("failed"), failing(spans("nested"))], ids=["failed", "nested"])
def test_a_call_that_failed_is_told_once(groups):
    failed = [call for call in calls_in(groups) if call["failed"]]
    assert failed
    rows = rows_of("What failed", groups)
    assert len(rows) == len(failed)
    assert all(row[semconv.ERROR_TYPE] for row in rows)
    assert measured(groups, query_of("Failed calls")) == {(): len(failed)}
    assert sum(measured(groups, query_of("Failed calls by error")).values()) == len(failed)


def test_a_session_that_was_picked_is_looked_at_alone():
    groups = spans()
    rows = rows_of("Sessions", groups)[:3]
    assert len(rows) == 3
    for row in rows:
        session = row[semconv.SESSION_ID]
        calls = [call for call in calls_in(groups) if call[semconv.SESSION_ID] == session]
        assert {one[semconv.SESSION_ID] for one in rows_of("Turns", groups, session)} == {session}
        assert measured(groups, query_of("Turns made", session)) == {(): len(calls)}


def test_ids_that_are_regular_expressions_are_picked_as_they_are():
    query = parsed(query_of("Turns", "a.b (c)|d/e", "plain"))
    said = {"span.session.id": "a.b (c)|d/e", "span.gen_ai.operation.name": "chat"}
    assert query.matches(said.get)
    assert query.matches({**said, "span.session.id": "plain"}.get)
    assert not query.matches({**said, "span.session.id": "axb (c)|d/e"}.get)


@pytest.mark.parametrize(
    ("title", "counted", "by"),
    [
        ("Input tokens", semconv.USAGE_INPUT_TOKENS, None),
        ("Output tokens", semconv.USAGE_OUTPUT_TOKENS, None),
        ("Cost", semconv.USAGE_COST_AMOUNT, None),
        ("Input tokens by session", semconv.USAGE_INPUT_TOKENS, semconv.SESSION_ID),
        ("Output tokens by session", semconv.USAGE_OUTPUT_TOKENS, semconv.SESSION_ID),
        ("Cost by session", semconv.USAGE_COST_AMOUNT, semconv.SESSION_ID),
        ("Input tokens by model", semconv.USAGE_INPUT_TOKENS, semconv.REQUEST_MODEL),
        ("Output tokens by model", semconv.USAGE_OUTPUT_TOKENS, semconv.REQUEST_MODEL),
        ("Cost by model", semconv.USAGE_COST_AMOUNT, semconv.REQUEST_MODEL),
    ],
)
def test_tokens_and_cost_are_those_of_the_calls_each_counted_once(title, counted, by):
    groups = spans()
    expected: dict[tuple[Any, ...], float] = {}
    for call in calls_in(groups):
        if counted in call:
            label = (call[by],) if by else ()
            expected[label] = expected.get(label, 0) + float(call[counted])
    told = measured(groups, query_of(title))
    assert told
    assert {label: expected[label] for label in told} == pytest.approx(told)
    assert sorted(told.values(), reverse=True) == pytest.approx(sorted(expected.values(), reverse=True)[: len(told)])
    assert len(told) == min(len(expected), 20 if by == semconv.SESSION_ID else len(expected))


def test_durations_are_those_of_calls_by_model():
    groups = spans()
    calls = calls_in(groups)
    told = measured(groups, query_of("Duration of calls, 95th percentile"))
    assert {model for (model,) in told} == {call[semconv.REQUEST_MODEL] for call in calls}
    for (model,), seconds in told.items():
        assert seconds in [call["seconds"] for call in calls if call[semconv.REQUEST_MODEL] == model]


def test_sessions_are_counted_by_their_roots():
    groups = spans("explicit", "parts", "nested")
    assert measured(groups, query_of("Sessions begun")) == {(): len(rows_of("Sessions", groups))}


def test_the_picker_asks_for_values_that_the_real_one_told():
    label = VARIABLES["session"]["query"]["label"]
    scopes = {tag: scope["name"] for scope in answer_to(10)["scopes"] for tag in scope["tags"]}
    path, _ = request_of(9)
    assert path == f"/api/v2/search/tag/{scopes[label]}.{label}/values"
    told = {value["value"] for value in answer_to(9)["tagValues"]}
    called = {call[semconv.SESSION_ID] for call in calls_in(recorded_traces())}
    assert called and called < told  # of one, whose calls stand in web requests, those were not recorded
    for session in called:
        assert {row[semconv.SESSION_ID] for row in rows_of("Turns", recorded_traces(), session)} == {session}


def test_metrics_are_asked_for_as_the_real_one_was():
    asked = {number: parsed(request_of(number)[1]["q"]).measure for number in (29, 30)}
    assert asked[29] and asked[29].function == "sum_over_time" and asked[29].by == ["span.session.id"]
    mine = parsed(query_of("Output tokens by session")).measure
    assert mine and (mine.function, mine.of, mine.by) == (asked[29].function, asked[29].of, asked[29].by)
    with recorded() as real:
        for number in asked:
            path, said = target_of(INDEX[number - 1]["request"][4:])
            assert json.load(urllib.request.urlopen(f"{real.url}{path}?{urlencode(said)}"))["series"] == []


@pytest.mark.parametrize("query", ["{} | sum_over_time()", "{} | rate(duration)", "{} | topk(3)",
                                   "{} | quantile_over_time(duration)", "{} | sum_over_time(duration, .5)",
                                   "{} | rate() | select(span.a)", "{} | rate() | topk(span.a)"])  # fmt: skip
def test_metrics_that_are_none_are_refused(query):
    with pytest.raises(BadQuery):
        parsed(query)


def test_every_panel_asks_the_data_source_that_is_chosen():
    chosen = {"type": "tempo", "uid": "${datasource}"}
    assert VARIABLES["datasource"]["type"] == "datasource" and VARIABLES["datasource"]["query"] == "tempo"
    asked = [VARIABLES["session"]["datasource"]]
    for panel in PANELS.values():
        asked += [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert asked == [chosen] * len(asked)


def test_panels_have_ids_of_their_own_and_places_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        taken |= cells


def test_a_panel_asks_for_what_it_can_draw():
    for panel in PANELS.values():
        (target,) = panel["targets"]
        assert (target["queryType"], target["filters"]) == ("traceql", [])
        if panel["type"] == "table":
            assert target["tableType"] == "spans" and target["spss"] <= 100  # what Tempo gives at most
        else:
            assert target["metricsQueryType"] == ("range" if panel["type"] == "timeseries" else "instant")


@pytest.mark.parametrize("title", SEARCHES)
def test_a_row_opens_its_trace(title):
    overrides = {one["matcher"]["options"]: one["properties"] for one in PANELS[title]["fieldConfig"]["overrides"]}
    (links,) = [one["value"] for one in overrides[semconv.SESSION_ID] if one["id"] == "links"]
    trace, session = (link["url"] for link in links)
    filled = trace.replace("${datasource}", "tempo-1").replace("${__data.fields.traceIdHidden}", "4042c5f7")
    assert "$" not in filled
    parts = urlsplit(filled)
    (pane,) = json.loads(dict(parse_qsl(parts.query))["panes"]).values()
    assert parts.path == "/explore" and pane["datasource"] == "tempo-1"
    (query,) = pane["queries"]
    assert (query["queryType"], query["query"], query["datasource"]["uid"]) == ("traceql", "4042c5f7", "tempo-1")
    assert session.startswith(f"/d/{DASHBOARD['uid']}?") and "var-session=${__value.raw:percentencode}" in session
