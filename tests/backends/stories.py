"""Conversations as users have them, each in a process of its own: run by the tests.

    stories.py explicit|chain|streamed|failed|parts|begun

It prints the id of the last response.
"""

from __future__ import annotations

import sys
from typing import Any

from openai import InternalServerError, OpenAI

MODEL = "gpt-4o-mini"
TURNS = {"explicit": 3, "chain": 3, "streamed": 3, "failed": 3, "parts": 6, "begun": 1}
FAILS = {"x-loopback-mode": "status=500"}


def named(client: OpenAI, story: str, turn: int) -> str:
    """A turn of a session that the application names; the second of `failed` fails."""
    fails = story == "failed" and turn == 2
    headers = {"x-session-id": f"the {story} one", **(FAILS if fails else {})}
    messages: Any = [{"role": "user", "content": "Hello"}]
    try:
        return client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers).id
    except InternalServerError:
        if not fails:
            raise
        return ""


def chained(client: OpenAI, story: str, previous: str) -> str:
    """A turn that goes on from a response."""
    asked: dict[str, Any] = {"model": MODEL, "input": "Hello"}
    if previous:
        asked["previous_response_id"] = previous
    if story == "streamed":
        *_, last = client.responses.create(stream=True, **asked)
        return last.response.id
    return client.responses.create(**asked).id


if __name__ == "__main__":
    (story,) = sys.argv[1:]
    reply = ""
    with OpenAI(max_retries=0) as client:
        for turn in range(1, TURNS[story] + 1):
            is_named = story in ("explicit", "failed", "parts")
            reply = named(client, story, turn) if is_named else chained(client, story, reply)
    print(reply)
