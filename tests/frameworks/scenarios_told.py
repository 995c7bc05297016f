"""What ties the calls of each scenario: `llm_session.source` of one person's calls, in order.

A person takes three turns; the first two ask a tool, which is a call more. `small_talk` asks none, and has the setting
HISTORY on.
"""

from __future__ import annotations

CHAIN = "new chain chain chain chain"
ITEM = "new item item item item"
TOOL = "new tool_call tool_call tool_call tool_call"
HISTORY = "new history history"
BAGGAGE = "baggage tool_call tool_call tool_call tool_call"


def handed_over(sources: str) -> str:
    """The same where an agent hands over to the one that asks the tool, which is another call in two of the turns."""
    return f"{sources} {' '.join(sources.split()[-2:])}"


SCENARIOS = {
    "openai-agents": {
        "previous_response_id": "new item chain chain chain",
        "previous_response_id_at_openai": "new item chain chain chain",
        "auto_previous_response_id": CHAIN,
        "conversation_id": "conversation conversation conversation conversation conversation",
        "to_input_list": ITEM,
        "sqlite_session": ITEM,
        "sqlite_session_streamed": ITEM,
        "sqlite_session_sync": ITEM,
        "sqlite_session_at_openai": ITEM,
        "conversations_session": "item item item item item",
        "conversations_session_streamed": "item item item item item",
        "conversations_session_at_openai": "item item item item item",
        "sqlite_session small_talk": "new item item",
        "chat_model": TOOL,
        "chat_model small_talk": HISTORY,
        "chat_model_streamed": TOOL,
        "parallel": "new item chain chain chain",
        "parallel_streamed": ITEM,
        "handoff": handed_over(ITEM),
        "handoff_previous_response_id": handed_over(CHAIN),
        "handoff_chat_model": handed_over(TOOL),
        "handoff_parallel_streamed": handed_over(ITEM),
    },
    "langchain": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "responses small_talk": "new item item",
        "chat_async_streamed": TOOL,
        "responses": ITEM,
        "responses_streamed": ITEM,
        "previous_response_id": CHAIN,
        "parallel": TOOL,
        "graph": TOOL,
    },
    "pydantic-ai": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "chat_streamed": TOOL,
        "chat_instrumented": BAGGAGE,
        "responses": ITEM,
        "responses_streamed": ITEM,
        "responses_instrumented": "baggage item item item item",
        "previous_response_id": CHAIN,
        "parallel": ITEM,
    },
    "llama-index": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "chat_streamed": TOOL,
        "responses": ITEM,
        "responses_streamed": ITEM,
        "track_previous_responses": CHAIN,
    },
    "instructor": {
        "tool_messages": "new tool_call tool_call",
        "retries": "new tool_call tool_call",
        "named": "context context context",
        "named_streamed": "context context context",
    },
    "autogen": {"chat": TOOL, "chat small_talk": HISTORY, "chat_streamed": TOOL, "team": TOOL},
    "ag2": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "chat_streamed": TOOL,
        "responses": ITEM,
        "responses_streamed": ITEM,
        "parallel": TOOL,
    },
    "semantic-kernel": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "chat_streamed": TOOL,
        "responses": CHAIN,
        "responses_streamed": CHAIN,
    },
    "agent-framework": {
        "chat": TOOL,
        "chat small_talk": HISTORY,
        "chat_streamed": TOOL,
        "responses": CHAIN,
        "responses_streamed": CHAIN,
        "responses_not_stored": ITEM,
        "parallel": CHAIN,
    },
    "smolagents": {
        "named": "context context context context context context",
        "named_streamed": "context context context context context context",
        "default_headers": "header header header header header header",
        "extra_body": "metadata metadata metadata metadata metadata metadata",
    },
}
