"""Sessions built from received spans, and the trees drawn of them."""

import io
import json
from dataclasses import replace
from itertools import count

import pytest
from rich.console import Console
from view_kit import REQUEST_1, REQUEST_2, RESOURCE, SESSION_TRACE, link

from otel_llm_sessions.view.costs import cost_in
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.terminal.facts import both_ends
from otel_llm_sessions.view.terminal.tree import trees

ids = count(1)


def span(name, trace_id=SESSION_TRACE, parent=None, start=0, end=None, links=(), status="UNSET", **attributes):
    return ReceivedSpan(
        name=name,
        trace_id=trace_id,
        span_id=f"{next(ids):016x}",
        parent_id=parent.span_id if parent else "",
        start=start * 1_000_000,
        end=(start + 10 if end is None else end) * 1_000_000,
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
        links=tuple(links),
        status=status,
        resource=RESOURCE,
    )


def call(turn, trace_id, session="s-1", source="metadata", tokens=(12, 34), **kwargs):
    return span(
        "chat gpt-4o-mini",
        trace_id,
        gen_ai__operation__name="chat",
        gen_ai__request__model="gpt-4o-mini",
        gen_ai__usage__input_tokens=tokens[0],
        gen_ai__usage__output_tokens=tokens[1],
        session__id=session,
        llm_session__turn=turn,
        llm_session__source=source,
        **kwargs,
    )


def drawn(spans):
    out = io.StringIO()
    console = Console(file=out, width=160, color_system=None)
    for tree in trees(sessions_of(spans), width=160):
        console.print(tree)
    return [line.rstrip() for line in out.getvalue().splitlines()]


# ---------------------------------------------------------------- TRACES=turn: no session roots


def test_without_session_roots_calls_are_grouped_by_session_id_in_turn_order():
    second, first = call(2, "b" * 32, start=0), call(1, "c" * 32, start=5)
    other = call(1, "d" * 32, session="s-2", start=90)
    sessions = sessions_of([second, other, first])
    assert [(session.id, [turn.span for turn in session.turns]) for session in sessions] == [
        ("s-1", [first, second]),
        ("s-2", [other]),
    ]
    assert all(session.root is None for session in sessions)


def test_turns_of_one_number_are_ordered_by_their_start():
    late, early = call(2, "b" * 32, start=7), call(2, "c" * 32, start=3)
    (session,) = sessions_of([late, early])
    assert [turn.span for turn in session.turns] == [early, late]


def test_spans_that_are_no_calls_or_have_no_session_make_no_session():
    plain = span("GET /", session__id="s-1")
    stray = span("chat x", gen_ai__operation__name="chat")
    assert sessions_of([plain, stray]) == []


def test_a_line_shows_model_tokens_duration_status_and_source():
    request = span("POST /chat", REQUEST_1)
    failed = call(2, REQUEST_1, parent=request, start=20, end=45, status="ERROR", tokens=(None, None))
    failed.attributes["error.type"] = "RateLimitError"
    assert drawn([call(1, "b" * 32, source="new"), request, failed]) == [
        "session s-1  shop  2 turns  12 → 34 tokens",
        "├── 1  chat gpt-4o-mini  12 → 34 tokens  10 ms  ok              found by new",
        "└── 2  chat gpt-4o-mini                  25 ms  RateLimitError  found by metadata"
        "  in POST /chat (trace a1a1a1a1…)",
    ]


# ---------------------------------------------------------------- TRACES=session: the structure decides


@pytest.fixture
def root():
    return span("session", session__id="s-1", llm_session__root=True, end=1)


def test_a_session_trace_is_its_root_with_the_turns_below_it(root):
    second, first = call(2, SESSION_TRACE, parent=root, start=30), call(1, SESSION_TRACE, parent=root)
    assert drawn([second, root, first]) == [
        f"session s-1  shop  2 turns  24 → 68 tokens  trace {SESSION_TRACE}",
        "├── 1  chat gpt-4o-mini  12 → 34 tokens  10 ms  ok  found by metadata",
        "└── 2  chat gpt-4o-mini  12 → 34 tokens  10 ms  ok  found by metadata",
    ]


def test_what_stands_right_below_a_root_is_its_sessions_and_so_is_what_only_says_so(root):
    inside = call(1, SESSION_TRACE, parent=root, session="says something else")
    outside = call(2, "b" * 32)
    (session,) = sessions_of([root, inside, outside])
    assert [turn.span for turn in session.turns] == [inside, outside]


def test_a_nested_turn_is_a_marker_with_an_arrow_to_its_request(root):
    request = span("POST /chat", REQUEST_1)
    real = call(1, REQUEST_1, source="context", parent=request, links=[link(root, "session")])
    later = call(2, REQUEST_2, links=[link(real, "previous_turn")], start=40)
    marker = span(
        "turn", parent=root, links=[link(root, "session"), link(real)], session__id="s-1", llm_session__turn=1
    )
    marker_2 = span("turn", parent=root, links=[link(real, "previous_turn"), link(later)], llm_session__turn=2)
    spans = [marker_2, request, real, later, root, marker]
    (session,) = sessions_of(spans)
    assert [(turn.span, turn.call, turn.request) for turn in session.turns] == [
        (marker, real, request),
        (marker_2, later, None),
    ]
    assert drawn(spans)[1:] == [
        "├── 1  turn gpt-4o-mini  12 → 34 tokens  10 ms  ok  found by context   ──▶ POST /chat (trace a1a1a1a1…)",
        "└── 2  turn gpt-4o-mini  12 → 34 tokens  10 ms  ok  found by metadata  ──▶ chat gpt-4o-mini (trace a2a2a2a2…)",
    ]


def test_a_marker_whose_call_did_not_arrive_says_so(root):
    lost = call(1, REQUEST_1)
    marker = span("turn", parent=root, links=[link(lost)], llm_session__turn=1)
    (session,) = sessions_of([root, marker])
    assert [turn.call for turn in session.turns] == [None]
    assert "did not arrive" in drawn([root, marker])[1]


def test_what_else_was_started_inside_the_session_is_shown_by_start(root):
    tool = span("look up the weather", parent=root, start=5)
    inner = call(2, SESSION_TRACE, parent=tool, start=7)
    first = call(1, SESSION_TRACE, parent=root, start=1)
    (session,) = sessions_of([inner, tool, first, root])
    assert [turn.span for turn in session.turns] == [first, inner]
    lines = drawn([inner, tool, first, root])
    assert lines[2] == "└── look up the weather  10 ms"
    assert lines[3].startswith("    └── 2  chat gpt-4o-mini")


def test_what_lies_very_deep_is_drawn_in_its_order_and_no_deeper_than_anybody_reads(root):
    spans = [root]
    for number in range(300):
        spans.append(span(f"inner {number}", parent=spans[-1], start=number))
    lines = drawn([*spans, call(1, SESSION_TRACE, parent=spans[-1], start=300)])
    assert len(lines) == 302
    assert [f"inner {number}  " in line for number, line in enumerate(lines[1:-1])] == [True] * 300
    assert max(map(len, lines)) < 160


def test_roots_of_several_processes_in_one_trace_are_one_session(root):
    other_root = span("talk", session__id="s-1", llm_session__root=True, start=50)
    turns = [call(1, SESSION_TRACE, parent=root), call(2, SESSION_TRACE, parent=other_root, start=60)]
    (session,) = sessions_of([other_root, root, *turns])
    assert session.root is root
    assert [turn.span for turn in session.turns] == turns


def test_the_parts_of_a_long_session_are_one_session(root):
    second = replace(root, trace_id="6f" * 16, start=9_000_000, links=(link(root),))
    attributes = {"session.id": "s-1", "llm_session.root": True, "llm_session.part": 2}
    second = replace(second, name="session continued", attributes=attributes)
    (session,) = sessions_of([second, root])
    assert [(part.number, part.root) for part in session.parts] == [(1, root), (2, second)]
    assert f"trace {SESSION_TRACE}  trace {second.trace_id}" in drawn([second, root])[0]


def test_the_name_of_a_session_is_shown_and_a_span_that_is_only_named_session_is_no_root(root):
    named = replace(root, name="x", attributes={**root.attributes, "llm_session.name": "refund"})
    stranger = span("session", session__id="s-2", start=7)
    (heading,) = [line for line in drawn([named, stranger, call(1, SESSION_TRACE, parent=named)]) if "s-" in line]
    assert heading.startswith("session s-1  refund  ")


def test_a_judgement_is_shown_with_its_score_and_label(root):
    said = {"gen_ai__evaluation__score__value": 0.5, "gen_ai__evaluation__score__label": "fair"}
    judged = span("evaluation thumbs", parent=root, **said)
    assert drawn([root, call(1, SESSION_TRACE, parent=root), judged])[-1].endswith("evaluation thumbs  0.5 fair")


def test_whose_a_session_is_and_its_tags_are_shown_where_they_are(root):
    said = {"user.id": "u-1", "llm_session.tags": ("beta", "de")}
    told = replace(root, attributes={**root.attributes, **said})
    assert drawn([told, call(1, SESSION_TRACE, parent=told)])[0].startswith(
        "session s-1  of u-1  #beta #de  shop  1 turn  "
    )
    alone = call(1, REQUEST_1)
    (session,) = sessions_of([replace(alone, attributes={**alone.attributes, "session.id": "s-1", **said})])
    assert (session.user, session.tags, session.name) == ("u-1", ("beta", "de"), "")


# ---------------------------------------------------------------- what the demo verifies


def priced(amount, currency="USD"):
    return {"gen_ai__usage__cost__amount": amount, "gen_ai__usage__cost__currency": currency}


def test_each_turn_and_session_shows_what_it_cost(root):
    first = call(1, SESSION_TRACE, parent=root, **priced(0.25))
    second = call(2, SESSION_TRACE, parent=root, start=20)
    third = call(3, SESSION_TRACE, parent=root, start=40, **priced(1.5))
    (session,) = sessions_of([root, first, second, third])
    assert [turn.price for turn in session.turns] == [(0.25, "USD"), None, (1.5, "USD")]
    assert session.costs == ((1.75, "USD"),)
    assert drawn([root, first, second, third]) == [
        f"session s-1  shop  3 turns  36 → 102 tokens  $1.75  trace {SESSION_TRACE}",
        "├── 1  chat gpt-4o-mini  12 → 34 tokens  $0.2500  10 ms  ok  found by metadata",
        "├── 2  chat gpt-4o-mini  12 → 34 tokens           10 ms  ok  found by metadata",
        "└── 3  chat gpt-4o-mini  12 → 34 tokens    $1.50  10 ms  ok  found by metadata",
    ]


def test_the_cost_of_a_nested_turn_is_that_of_its_call_alone(root):
    inside = call(1, REQUEST_1, **priced(0.5))
    marker = span("turn", parent=root, links=[link(inside)], session__id="s-1", llm_session__turn=1, **priced(0.5))
    (session,) = sessions_of([root, inside, marker])
    assert session.costs == ((0.5, "USD"),)


def test_currencies_are_not_added_up(root):
    spans = [call(turn, SESSION_TRACE, parent=root, **priced(0.25, currency)) for turn, currency in enumerate("AB", 1)]
    (session,) = sessions_of([root, *spans])
    assert session.costs == ((0.25, "A"), (0.25, "B"))
    assert "  0.2500 A + 0.2500 B  " in drawn([root, *spans])[0]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0"), (0.0000001, "<$0.000001"), (0.0000284, "$0.000028"), (0.01, "$0.0100"), (0.5, "$0.5000"),
        (1, "$1.00"), (1234.567, "$1,234.57"),
    ],
)  # fmt: skip
def test_amounts_are_written_as_people_write_them(amount, shown):
    assert str(cost_in({"gen_ai.usage.cost.amount": amount, "gen_ai.usage.cost.currency": "USD"})) == shown


@pytest.mark.parametrize("odd", [None, True, "0.5", -1, float("nan"), float("inf"), 1.7e308, 10**400, (1,)])
def test_what_is_no_amount_is_no_cost(odd):
    assert cost_in({"gen_ai.usage.cost.amount": odd}) is None


def test_a_turn_follows_the_one_its_link_leads_to(root):
    first = call(1, REQUEST_1)
    marker = span("turn", parent=root, links=[link(first)], llm_session__turn=1)
    second = call(2, SESSION_TRACE, parent=root, start=30, links=[link(first, "previous_turn")])
    third = call(3, SESSION_TRACE, parent=root, start=60, links=[link(first, "session")])
    (session,) = sessions_of([root, first, marker, second, third])
    one, _, _ = session.turns
    assert [turn.follows for turn in session.turns] == [None, one, None]


def test_long_ids_keep_both_ends():
    assert both_ends("resp_" + "x" * 465, 11) == "resp_…xxxxx"
    assert both_ends("short", 11) == "short"


def messages(*said):
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in said])


@pytest.mark.parametrize(
    ("asked", "replied", "shown"),
    [
        (
            messages(("system", "Be kind."), ("user", "Where is\n my order?")),
            messages(("assistant", "There.")),
            "Where is my order?",
        ),
        (messages(("user", "one"), ("assistant", "two"), ("user", "three")), None, "three"),
        (messages(("tool", "12")), messages(("assistant", "It is 12.")), "It is 12."),
        (messages(("user", "x" * 50)), None, "x" * 39 + "…"),
        (messages(("user", "Where is my order?"))[:30], messages(("assistant", "There.")), "There."),
        ([{"role": "user", "parts": [None, {"type": "blob"}, {"type": "text", "content": 5}]}, "odd"], None, None),
        ("{}", "null", None),
    ],
    ids=("asked", "newest", "tool", "long", "cut", "odd", "nothing"),
)
def test_a_turn_shows_its_first_words(asked, replied, shown):
    said = {"gen_ai__input__messages": asked, "gen_ai__output__messages": replied}
    root = span("session", llm_session__root=True, session__id="s-1")
    turn = call(1, SESSION_TRACE, parent=root, **{name: value for name, value in said.items() if value is not None})
    line = drawn([root, turn])[1]
    assert (f"  “{shown}”  12 → 34 tokens" if shown else "gpt-4o-mini  12 → 34 tokens") in line
