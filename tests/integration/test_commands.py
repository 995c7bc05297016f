"""``list``, ``show`` and ``export`` against a viewer: what is asked, said and returned."""

from __future__ import annotations

import json
import re

import pytest
from command_kit import conversation, messages, root, run, turn, viewer
from programs import run_code

from otel_llm_sessions.cli import main
from otel_llm_sessions.view.otlp_json import read_logs_json, read_spans_json
from otel_llm_sessions.view.spans import ReceivedLog


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.delenv("OTEL_LLM_SESSIONS_FROM", raising=False)
    monkeypatch.delenv("OTEL_LLM_SESSIONS_FROM_HEADERS", raising=False)


@pytest.fixture
def shop():
    """Three sessions: one of three turns with a failure, one that is named, one of the day before yesterday."""
    top = root("support-42", "5e" * 16, **{"user.id": "u-1"})
    failed = turn(top, 3, status="ERROR", error__type="RateLimitError")
    named = conversation("s/2 é", trace="6f", **{"llm_session.name": "refund"})
    return [top, turn(top, 1), turn(top, 2), failed, *named]


def test_a_list_is_a_table_with_whole_ids_where_it_is_piped(shop, capsys):
    long = "resp_" + "x" * 200
    with viewer([*shop, *conversation(long, trace="7a")]) as there:
        assert main(["list", "--from", there.url]) == 0
    said = capsys.readouterr()
    head, *rows = said.out.splitlines()
    assert head.split() == ["id", "name", "user", "turns", "models", "in", "out", "errors", "first", "last"]
    assert {row.split("  ")[0] for row in rows} == {"support-42", "s/2 é", long}
    (row,) = [row for row in rows if row.startswith("support-42")]
    assert re.split(r"  +", row)[1:7] == ["u-1", "3", "gpt-4o-mini", "6,000", "60", "1"]
    assert said.err == ""


def test_what_is_asked_for_is_asked_of_the_source(shop, capsys):
    filters = ["--service", "shop", "--user", "u-1", "--model", "gpt", "--name", "", "--errors", "--min-turns", "2"]
    with viewer(shop) as there:
        assert main(["list", "--from", there.url, "--json", "--sort", "turns", "--limit", "7", *filters]) == 0
    asked = there.asked[-1]
    assert {name: value for name, value in asked.said.items() if name != "since"} == {
        "service": "shop",
        "user": "u-1",
        "model": "gpt",
        "errors": "true",
        "min_turns": "2",
        "sort": "turns",
        "limit": "7",
    }
    (session,) = json.loads(capsys.readouterr().out)
    assert (session["id"], session["turns"], session["errors"]) == ("support-42", 3, 1)


def test_where_to_ask_is_said_by_the_environment_too_and_headers_go_along(shop, capsys, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_FROM_HEADERS", "Authorization=Bearer%20t%2Ck, X-Scope-OrgID = 1")
    with viewer(shop) as there:
        monkeypatch.setenv("OTEL_LLM_SESSIONS_FROM", there.url)
        assert main(["list", "--json"]) == 0
    assert there.asked[-1].headers["authorization"] == "Bearer t,k"
    assert there.asked[-1].headers["x-scope-orgid"] == "1"


@pytest.mark.parametrize("headers", ["secret", "a b=secret", "a=secret%0d%0aX: y", "=secret"])
def test_headers_that_are_none_are_refused_without_showing_them(headers, capsys, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_FROM_HEADERS", headers)
    assert main(["list"]) == 2
    said = capsys.readouterr()
    assert "OTEL_LLM_SESSIONS_FROM_HEADERS is not valid" in said.err
    assert "secret" not in said.out + said.err


def test_no_sessions_are_an_empty_array_and_a_status_of_1(capsys):
    with viewer([]) as there:
        assert main(["list", "--from", there.url, "--json", "--user", "x\x1b[31m"]) == 1
        said = capsys.readouterr()
        assert said.out == "[]\n"
        assert said.err == f"the viewer at {there.url} has no sessions (since 24h, user x\\x1b[31m)\n"
        assert main(["list", "--from", there.url]) == 1
    assert capsys.readouterr().out == ""


def test_more_than_is_shown_is_said_and_pages_are_followed(capsys, monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.view.sources.viewer.PER_PAGE", 10)
    spans = [span for at in range(25) for span in conversation(f"s-{at}", turns=1, trace=f"{at:04x}")]
    with viewer(spans) as there:
        assert main(["list", "--from", there.url, "--json", "--limit", "12"]) == 0
        said = capsys.readouterr()
        assert len(json.loads(said.out)) == 12
        assert said.err == "the first 12 sessions; there are more: --limit N shows so many\n"
        assert main(["export", "--from", there.url, "--since", "1h"]) == 0
    said = capsys.readouterr()
    assert len({json.loads(line)["id"] for line in said.out.splitlines()}) == 25
    assert said.err == ""


def test_a_session_is_shown_as_a_tree(shop, capsys):
    with viewer(shop) as there:
        assert main(["show", "support-42", "--from", there.url]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:4] == [
        f"session support-42  of u-1  shop  3 turns  6,000 → 60 tokens  trace {'5e' * 16}",
        "├── 1  chat gpt-4o-mini  1,000 → 10 tokens  250 ms  ok              found by chain",
        "├── 2  chat gpt-4o-mini  2,000 → 20 tokens  250 ms  ok              found by chain",
        "└── 3  chat gpt-4o-mini  3,000 → 30 tokens  250 ms  RateLimitError  found by chain",
    ]


def test_with_content_all_that_was_said_stands_below_its_turn(capsys):
    top = root("talk", "5e" * 16)
    arguments = {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"order": 5}}
    result = {"type": "tool_call_response", "id": "call_1", "response": "sent\non Monday"}
    picture = {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 12345}
    first = turn(
        top,
        1,
        gen_ai__input__messages=messages(("system", "Be kind."), ("user", "Where is\nmy order?"), ("user", [picture])),
        gen_ai__output__messages=messages(
            ("assistant", [{"type": "reasoning", "content": "Look it up."}, arguments]),
        ),
    )
    second = turn(
        top,
        2,
        status="ERROR",
        error__type="RateLimitError",
        gen_ai__input__messages=messages(("tool", [result])),
        gen_ai__output__messages='[{"role": "assista',
    )
    with viewer([top, first, second]) as there:
        assert main(["show", "talk", "--content", "--from", there.url]) == 0
    said = capsys.readouterr()
    lines = [re.sub(r"^[│├└─ ]{8}", "", line).rstrip() for line in said.out.splitlines()]
    begin = lines.index("system")
    assert lines[begin : begin + 13] == [
        "system",
        "  Be kind.",
        "user",
        "  Where is",
        "  my order?",
        "user",
        "  [image/png, 12,345 bytes]",
        "assistant",
        "  reasoning",
        "    Look it up.",
        "  calls look_up call_1",
        "    {",
        '      "order": 5',
    ]
    begin = lines.index("tool")
    assert lines[begin : begin + 4] == ["tool", "  result of call_1", "    sent", "    on Monday"]
    after = lines[lines.index("RateLimitError", begin) + 1]
    assert "cut off" in after


def test_the_page_and_the_traces_of_a_session_are_told(shop, capsys):
    with viewer(shop, trace_url="http://jaeger/trace/{trace_id}") as there:
        assert main(["show", "s/2 é", "--from", there.url]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "",
        f"page    {there.url}/sessions/s%2F2%20%C3%A9",
        f"part 1  http://jaeger/trace/{'6f' * 16}",
    ]


def test_words_that_are_events_are_shown_and_exported(capsys):
    spans = conversation("talk", turns=1)
    event = ReceivedLog(
        "gen_ai.client.inference.operation.details",
        spans[1].end,
        None,
        {"gen_ai.input.messages": messages(("user", "Where is my order?"))},
        spans[1].trace_id,
        spans[1].span_id,
    )
    with viewer(spans, [event]) as there:
        assert main(["show", "talk", "--content", "--from", there.url]) == 0
        assert "Where is my order?" in capsys.readouterr().out
        assert main(["export", "talk", "--format", "otlp", "--from", there.url]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert read_spans_json(first) == spans
    assert [(log.event_name, log.attributes) for log in read_logs_json(second)] == [
        (event.event_name, event.attributes)
    ]


def test_without_words_it_says_how_to_have_them(shop, capsys):
    with viewer(shop) as there:
        assert main(["show", "support-42", "--content", "--from", there.url]) == 0
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY" in capsys.readouterr().err


def test_a_session_as_json_is_as_the_api_has_it_and_its_line_in_an_export_too(shop, capsys):
    with viewer(shop) as there:
        assert main(["show", "s/2 é", "--json", "--from", there.url]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert main(["export", "s/2 é", "support-42", "--from", there.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (shown["id"], shown["name"], shown["turn_count"], len(shown["turns"])) == ("s/2 é", "refund", 2, 2)
    assert [json.loads(line)["id"] for line in lines] == ["s/2 é", "support-42"]
    assert json.loads(lines[0]) == shown


def test_an_export_of_otlp_is_one_request_a_line_and_can_be_sent_on(shop, capsys):
    with viewer(shop) as there:
        assert main(["export", "support-42", "s/2 é", "--format", "otlp", "--from", there.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert sorted(span.span_id for line in lines for span in read_spans_json(line)) == sorted(
        span.span_id for span in shop
    )


def test_an_id_that_is_not_known_is_said(shop, capsys):
    with viewer(shop) as there:
        assert main(["show", "nobody", "--from", there.url]) == 1
        assert capsys.readouterr().err == f"the viewer at {there.url} has no session nobody\n"
        assert main(["export", "nobody", "support-42", "--from", there.url]) == 1
    said = capsys.readouterr()
    assert (said.out.count("\n"), said.err) == (1, f"the viewer at {there.url} has no session nobody\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--since", "3x"], "since '3x' is not valid: expected an age"),
        (["list", "--until", "tomorrow"], "until 'tomorrow' is not valid"),
        (["list", "--min-turns", "-"], "min_turns '-' is not valid"),
        (["list", "--limit", "0"], "'0' is not valid: expected a whole number from 1"),
        (["list", "--sort", "luck"], "invalid choice"),
        (
            ["list", "--from", "ftp://localhost:4318"],
            "the address of the source is not valid: expected http:// or https://",
        ),
        (["list", "more"], "unrecognized arguments: more"),
        (["show"], "ID"),
        (["show", "x", "--json", "--content"], "not allowed with"),
        (["export"], "expected either the ids of sessions, or options that choose some"),
        (["export", "x", "--user", "u"], "expected either the ids of sessions, or options that choose some"),
        (["export", "x", "--format", "csv"], "invalid choice"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_said_before_anything_is_asked(arguments, said, capsys):
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_source_that_does_not_answer_is_a_status_of_3_and_one_line(capsys, monkeypatch):
    assert main(["list", "--from", "http://127.0.0.1:1"]) == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "http://127.0.0.1:1" in said.err
    assert "Connection refused" in said.err
    monkeypatch.setattr("otel_llm_sessions.view.commands.options.VIEWER", "http://127.0.0.1:1")
    monkeypatch.setattr("otel_llm_sessions.view.commands.running.VIEWER", "http://127.0.0.1:1")
    assert main(["list"]) == 3
    assert "start it with `otel-llm-sessions view`, or name another source with --from" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install():
    code = "import sys; sys.modules['rich'] = None; from otel_llm_sessions.cli import main; sys.exit(main(['list']))"
    done = run_code(code)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install '.[view]'" in done.stderr


def test_help_names_the_sources_the_variables_and_the_exit_statuses():
    said = run("list", "--help").stdout.decode()
    for named in ("http://localhost:4318", "OTEL_LLM_SESSIONS_FROM", "OTEL_LLM_SESSIONS_FROM_HEADERS", "Exit status"):
        assert named in said
