"""docs/frameworks.md and README name each framework, what ties its calls, and the versions that it is played with."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from contract.matrix import ROOT
from frameworks.environments import FRAMEWORKS, PINNED
from frameworks.scenarios_told import SCENARIOS

from otel_llm_sessions.sessions.link import Source

PAGE = (ROOT / "docs/frameworks.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows_below(header: str, text: str) -> list[list[str]]:
    """The cells of a table's rows."""
    rows = text.partition(header)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


TABLE = rows_below("| framework | what keeps the conversation | `llm_session.source` of its turns | seen on |", PAGE)
SHORT_TABLE = rows_below("| framework | what ties its calls | seen on |", README)

PLAYED = {
    "openai-agents": [
        "previous_response_id previous_response_id_at_openai auto_previous_response_id parallel"
        " handoff_previous_response_id",
        "conversation_id",
        "to_input_list sqlite_session sqlite_session_streamed sqlite_session_sync sqlite_session_at_openai"
        " parallel_streamed handoff handoff_parallel_streamed",
        "conversations_session conversations_session_streamed conversations_session_at_openai",
        "chat_model chat_model_streamed handoff_chat_model",
    ],
    "langchain": ["chat chat_async_streamed parallel graph", "responses responses_streamed", "previous_response_id"],
    "pydantic-ai": [
        "chat chat_streamed",
        "responses responses_streamed parallel",
        "previous_response_id",
        "chat_instrumented responses_instrumented",
    ],
    "llama-index": ["chat chat_streamed", "responses responses_streamed", "track_previous_responses"],
    "autogen": ["chat chat_streamed team"],
    "ag2": ["chat chat_streamed parallel", "responses responses_streamed"],
    "semantic-kernel": ["chat chat_streamed", "responses responses_streamed"],
    "agent-framework": ["chat chat_streamed", "responses responses_streamed responses_not_stored parallel"],
    "instructor": ["tool_messages retries", "named named_streamed"],
    "smolagents": ["named named_streamed default_headers extra_body"],
}
"""Which scenarios play each row of the page's table, in the order of its rows."""

NAMED = {"context", "header", "metadata"}
"""How the application names a session where nothing ties the calls."""

SHORT = {
    "tool_call": "tool calls",
    "item": "items",
    "chain": "chain",
    "conversation": "conversation",
    "baggage": "baggage",
}
"""What README calls the sources."""


def seen_in(framework: str, names: str) -> set[str]:
    """What tied the calls of some scenarios; empty where the application had to name the session."""
    seen = {source for name in names.split() for source in SCENARIOS[framework][name].split()} - {"new"}
    return seen - NAMED


def test_the_page_says_of_each_row_what_tied_its_calls():
    played = [(framework, names) for framework, rows in PLAYED.items() for names in rows]
    assert len(played) == len(TABLE)
    for (framework, names), cells in zip(played, TABLE, strict=True):
        sources = set(re.findall(r"`(\w+)`", cells[2])) & {*get_args(Source)}
        assert (framework, names, sources) == (framework, names, seen_in(framework, names))
        assert ("name it" in cells[2]) == (not sources)


@pytest.mark.parametrize("framework", SCENARIOS)
def test_every_scenario_plays_a_row_of_the_table(framework):
    played = " ".join(PLAYED[framework]).split()
    assert sorted(played) == sorted(name for name in SCENARIOS[framework] if " " not in name)


@pytest.mark.parametrize(("framework", "cells"), [*zip(PLAYED, SHORT_TABLE, strict=True)], ids=PLAYED)
def test_the_readme_says_of_each_framework_what_tied_its_calls(framework, cells):
    told = {source for source, called in SHORT.items() if called in cells[1]}
    assert told == set().union(*(seen_in(framework, names) for names in PLAYED[framework]))
    assert ("name it" in cells[1]) == any(not seen_in(framework, names) for names in PLAYED[framework])


def test_the_page_says_which_frameworks_were_played_by_what_was_said():
    sentence = re.search(r"played with chat models of ([^.]*)\.", PAGE)
    assert sentence is not None
    plain = re.sub(r" and |, ", " ", sentence[1].lower().replace("semantic kernel", "semantic-kernel")).split()
    plain = ["llama-index" if name == "llamaindex" else name for name in plain]
    told = {name for name, scenarios in SCENARIOS.items() for of_name in scenarios.values() if "history" in of_name}
    assert set(plain) == told


def test_the_table_names_the_versions_of_each_framework():
    told = [cells[-1] for cells in TABLE if cells[-1]]
    assert told == [", ".join(versions(framework)) for framework in PLAYED]


def test_the_readme_names_the_version_of_each_framework():
    told = [cells[-1] for cells in SHORT_TABLE]
    assert told == [versions(framework)[0] for framework in PLAYED]


def versions(framework: str) -> list[str]:
    packages = [package.partition("[")[0] for package in (*FRAMEWORKS[framework], "openai")]
    return [f"{package} {PINNED.version(framework, package)}" for package in packages]


def test_every_framework_is_played():
    assert list(SCENARIOS) == list(FRAMEWORKS)
