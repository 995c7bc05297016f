"""A session with everything that a page can show: roles, reasoning, tools, code, a failure, a branch, a judgement."""

from __future__ import annotations

from typing import Any

from viewer_kit import SECOND, called, message, resulted, root, span_id_of, talk, trace_id_of, turn

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedSpan

ID = "support/42"
TRACE = 7
WHO: dict[str, Any] = {
    semconv.USER_ID: "anna@example.com",
    semconv.LLM_SESSION_NAME: "Where is my order?",
    semconv.LLM_SESSION_TAGS: ("beta", "support"),
}
RULES = "You are the assistant of a small bicycle shop. Be brief and friendly. " * 8
LIMIT = "Error code: 429 - rate limit reached for gpt-4o-mini, try again in 20 s"
CODE = 'Ask the API:\n\n```python\nprint(order["status"])\n```\n\nIt prints `packed` until it is **shipped**.'
ORDERS = {"orders": [{"id": "A-1093", "status": "packed", "items": ["Tyre 28"] * 12}]}


def used(asked: int, told: int, cost: float, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """What a turn used."""
    return {
        semconv.USAGE_INPUT_TOKENS: asked,
        semconv.USAGE_OUTPUT_TOKENS: told,
        semconv.USAGE_CACHE_READ_INPUT_TOKENS: cached,
        semconv.USAGE_REASONING_OUTPUT_TOKENS: reasoning,
        semconv.USAGE_COST_AMOUNT: cost,
        semconv.USAGE_COST_CURRENCY: "USD",
        semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.31,
    }


def showcase(begin: int) -> list[ReceivedSpan]:
    """The session's spans; it begins at a time in nanoseconds."""

    def said(number: int, **more: Any) -> ReceivedSpan:
        return turn(ID, number, trace=TRACE, begin=begin, **{**WHO, **more})

    thought = {"type": "reasoning", "content": "An order number is needed, or the account tells it."}
    looked_up = called("find_orders", {"email": "anna@example.com"})
    return [
        root(ID, trace=TRACE, at=begin, **WHO),
        said(
            1,
            asked=[message("system", RULES), message("user", "Where is my order? I bought two tyres.")],
            answered=[message("assistant", thought, looked_up, finish_reason="tool_call")],
            **used(1412, 96, 0.000119, 0, 64),
        ),
        said(
            2,
            after=1,
            at=1.6,
            asked=[message("tool", resulted(ORDERS))],
            answered=[message("assistant", "It is packed and waits for the courier.", finish_reason="stop")],
            **used(1602, 41, 0.000115, 1412),
        ),
        said(
            3,
            after=2,
            at=94,
            took=2.3,
            asked=[message("user", "How could I check that from a script?")],
            answered=[message("assistant", CODE, finish_reason="stop")],
            **used(660, 128, 0.000176),
        ),
        said(4, after=3, at=2094, took=0.2, error="openai.RateLimitError", error_text=LIMIT),
        said(5, after=3, at=2115, asked=[message("user", "When does it come?")], **used(812, 37, 0.000144)),
        said(6, after=3, at=2200, asked=[message("user", "Or to my neighbour?")], **used(790, 22, 0.000131)),
        said(7, after=5, at=2400, asked=[message("user", "Thanks!")], **used(860, 9, 0.000134)),
        judgement(begin),
    ]


def judgement(begin: int) -> ReceivedSpan:
    """What somebody thinks of the third turn."""
    at = begin + 99 * SECOND
    return ReceivedSpan(
        "evaluation helpfulness",
        trace_id_of(TRACE),
        span_id_of(99, TRACE),
        span_id_of(0, TRACE),
        start=at,
        end=at,
        attributes={
            semconv.SESSION_ID: ID,
            semconv.EVALUATION_NAME: "helpfulness",
            semconv.EVALUATION_SCORE_VALUE: 0.9,
            semconv.EVALUATION_SCORE_LABEL: "good",
            semconv.EVALUATION_EXPLANATION: "A working example.",
        },
        links=(ReceivedLink(trace_id_of(TRACE), span_id_of(3, TRACE)),),
    )


def others(now: int, count: int = 8) -> list[ReceivedSpan]:
    """Plain sessions, each an hour older than the one before."""
    users = ("ben", "chris", "dora@example.com")
    return [
        span
        for index in range(count)
        for span in talk(
            f"chat-{index:02d}",
            index % 5 + 1,
            trace=100 + index,
            begin=now - (index + 1) * 3600 * SECOND,
            **{semconv.USER_ID: users[index % 3], semconv.USAGE_COST_AMOUNT: 0.0123 * index},
        )
    ]
