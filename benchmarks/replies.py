"""What the server answers: canned bodies of realistic size, made without a server.

The client under test is the real one; only its transport is replaced, by a function in the same process. There is no
socket because a socket's cost differs from run to run (system calls, wake-ups, how the bytes were cut into packets),
and would drown what is measured here; instructions inside the process come out the same every time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

MODEL = "gpt-4.1-mini"
SERVED_MODEL = "gpt-4.1-mini-2025-04-14"
CREATED = 1_767_225_600
ID_MARK = "ID-OF-THIS-REPLY"
PROMPT = "Which of the four seasons do you like most, and why? Answer in two or three sentences."
ANSWER = (
    "I would pick autumn: the light is low and warm, the air is clear, and the harvest makes for the best cooking of "
    "the year. It is also the season in which people return to their plans after the summer, which makes for good "
    "conversations."
)

CHAT: dict[str, Any] = {
    "id": f"chatcmpl-{ID_MARK}",
    "object": "chat.completion",
    "created": CREATED,
    "model": SERVED_MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 25,
        "completion_tokens": 58,
        "total_tokens": 83,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_658b958c37",
}

RESPONSE: dict[str, Any] = {
    "id": f"resp_{ID_MARK}",
    "object": "response",
    "created_at": CREATED,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "model": SERVED_MODEL,
    "output": [
        {
            "id": f"msg_{ID_MARK}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": ANSWER}],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 25,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 58,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 83,
    },
    "user": None,
    "metadata": {},
}


class Reply:
    """A JSON body in which only the id changes from call to call, as long and as random as the provider's ids are."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._text = json.dumps(body)
        self._number = itertools.count()

    def next(self) -> bytes:
        """Return the next reply's body."""
        digest = hashlib.sha256(b"%d" % next(self._number)).hexdigest()
        return self._text.replace(ID_MARK, digest[:48]).encode()


def chat_events(chunks: int) -> Iterator[bytes]:
    """Yield the events of a chat stream of ``chunks`` pieces of text, one network read each."""
    head = {**{k: CHAT[k] for k in ("created", "model", "service_tier", "system_fingerprint")}}
    head |= {"id": f"chatcmpl-{'c' * 29}", "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], finish: str | None = None, usage: dict[str, Any] | None = None) -> bytes:
        choices = [] if usage else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return b"data: %s\n\n" % json.dumps({**head, "choices": choices, "usage": usage}).encode()

    yield event({"role": "assistant", "content": "", "refusal": None})
    piece = event({"content": " season"})
    for _ in range(chunks):
        yield piece
    yield event({}, finish="stop")
    yield event({}, usage=CHAT["usage"])
    yield b"data: [DONE]\n\n"


def response_events(chunks: int) -> Iterator[bytes]:
    """Yield the events of a responses stream of ``chunks`` pieces of text, one network read each."""
    number = itertools.count()
    done = json.loads(json.dumps(RESPONSE).replace(ID_MARK, "r" * 48))
    opened = {**done, "status": "in_progress", "output": [], "usage": None}
    item = done["output"][0]
    place = {"item_id": item["id"], "output_index": 0}
    part = {**place, "content_index": 0}

    def event(kind: str, **fields: Any) -> bytes:
        body = json.dumps({"type": kind, "sequence_number": next(number), **fields})
        return f"event: {kind}\ndata: {body}\n\n".encode()

    yield event("response.created", response=opened)
    yield event("response.in_progress", response=opened)
    yield event("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
    empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    yield event("response.content_part.added", part=empty, **part)
    for _ in range(chunks):
        yield event("response.output_text.delta", delta=" season", logprobs=[], obfuscation="x7Q2", **part)
    yield event("response.output_text.done", text=ANSWER, logprobs=[], **part)
    yield event("response.content_part.done", part=item["content"][0], **part)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=done)
