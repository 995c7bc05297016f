"""The application that talks through the client itself."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

MODEL = "gpt-4o-mini"
TURNS = ("Hello", "Thank you")

Seen = dict[str, Any]
"""What an application sees of a reply, but what is another in each run."""


class Turn(NamedTuple):
    """One turn: which API, what is said, and what names its session."""

    api: str
    text: str
    session: str
    previous: str | None

    def arguments(self) -> dict[str, Any]:
        if self.api == "chat":
            messages = [{"role": "user", "content": self.text}]
            return {"messages": messages, "extra_headers": {"x-session-id": self.session}}
        return {"input": self.text, **({"previous_response_id": self.previous} if self.previous else {})}


def talk(api: str, way: str) -> list[Seen]:
    """Two turns."""
    return asyncio.run(_atalk(api, way)) if way.startswith("a") else _talk(api, way)


def _talk(api: str, way: str) -> list[Seen]:
    from openai import OpenAI

    found, previous = [], None
    with OpenAI() as client:
        for text in TURNS:
            seen, previous = say(client, Turn(api, text, f"{api} {way}", previous), way == "stream")
            found.append(seen)
    return found


async def _atalk(api: str, way: str) -> list[Seen]:
    from openai import AsyncOpenAI

    found, previous = [], None
    async with AsyncOpenAI() as client:
        for text in TURNS:
            seen, previous = await asay(client, Turn(api, text, f"{api} {way}", previous), way == "astream")
            found.append(seen)
    return found


def say(client: Any, turn: Turn, stream: bool) -> tuple[Seen, str]:
    """One turn by a client that waits: what is seen of the reply, and its id."""
    reply = resource(client, turn.api).create(model=MODEL, stream=stream, **turn.arguments())
    return seen_of_stream(list(reply)) if stream else seen_of(reply)


async def asay(client: Any, turn: Turn, stream: bool) -> tuple[Seen, str]:
    """One turn by a client on an event loop."""
    reply = await resource(client, turn.api).create(model=MODEL, stream=stream, **turn.arguments())
    return seen_of_stream([chunk async for chunk in reply]) if stream else seen_of(reply)


def resource(client: Any, api: str) -> Any:
    return client.chat.completions if api == "chat" else client.responses


def seen_of(reply: Any) -> tuple[Seen, str]:
    told = reply.output_text if hasattr(reply, "output_text") else reply.choices[0].message.content
    return {"type": f"{type(reply).__module__}.{type(reply).__name__}", "text": told}, reply.id


def seen_of_stream(chunks: list[Any]) -> tuple[Seen, str]:
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if getattr(chunk, "choices", None)]
    parts += [chunk.delta for chunk in chunks if getattr(chunk, "type", "") == "response.output_text.delta"]
    kinds = sorted({f"{type(chunk).__module__}.{type(chunk).__name__}" for chunk in chunks})
    named = getattr(chunks[0], "id", None) or chunks[0].response.id
    return {"chunks": len(chunks), "kinds": kinds, "text": "".join(parts)}, named
