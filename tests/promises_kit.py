"""What tests of the application's promises share."""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

from loopback_client import MODEL

from otel_llm_sessions.testing import capture_spans

CHAT = {
    "id": "chatcmpl-Bx7Qm2LrT9vYk3Zp5Wd8Nf1Ha",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}

CHUNKS = [
    {**CHAT, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], "usage": None}
    for text in ("One", "Two", "Three")
]

STREAM = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


def outcome(scenario: Callable[[], Any]) -> Any:
    """What a scenario returned or raised, as a value that can be compared."""
    try:
        return scenario()
    except BaseException as error:
        return _raised(error)


async def aoutcome(awaitable: Awaitable[Any]) -> Any:
    """The same of something that is awaited."""
    try:
        return await awaitable
    except BaseException as error:
        return _raised(error)


def _raised(error: BaseException) -> Any:
    cause = error.__cause__
    return type(error), str(error), getattr(error, "body", None), type(cause), str(cause)


def same_with_and_without(scenario: Callable[[], Any], **settings: Any) -> Any:
    """Run a scenario bare, then instrumented; both must come to the same. Returns the spans."""
    bare = scenario()
    with capture_spans(**{"traces": "turn", **settings}) as spans:
        instrumented = scenario()
        gc.collect()
    assert instrumented == bare
    return spans


def seen(reply: Any) -> Any:
    return type(reply), reply.model_dump() if hasattr(reply, "model_dump") else reply
