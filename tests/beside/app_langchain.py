"""The application that talks through LangChain."""

from __future__ import annotations

import asyncio
from typing import Any

from app_client import MODEL, TURNS, Seen
from langchain_openai import ChatOpenAI

on_a_loop = asyncio.Runner()
"""One for all: LangChain keeps its connections from one model to the next."""


def model(api: str, session: str) -> Any:
    if api == "chat":
        return ChatOpenAI(model=MODEL).bind(extra_headers={"x-session-id": session})
    return ChatOpenAI(model=MODEL, use_responses_api=True, use_previous_response_id=True)


def talk(api: str, way: str) -> list[Seen]:
    """Two turns."""
    return on_a_loop.run(_atalk(api, way)) if way.startswith("a") else _talk(api, way)


def _talk(api: str, way: str) -> list[Seen]:
    chat, said, found = model(api, f"{api} {way}"), [], []
    for text in TURNS:
        said.append(("user", text))
        reply = together(list(chat.stream(said))) if way == "stream" else chat.invoke(said)
        said.append(reply)
        found.append(seen_of(reply))
    return found


async def _atalk(api: str, way: str) -> list[Seen]:
    chat, said, found = model(api, f"{api} {way}"), [], []
    for text in TURNS:
        said.append(("user", text))
        chunks = [chunk async for chunk in chat.astream(said)] if way == "astream" else [await chat.ainvoke(said)]
        said.append(together(chunks))
        found.append(seen_of(said[-1]))
    return found


def together(chunks: list[Any]) -> Any:
    """The message that chunks are parts of."""
    message = chunks[0]
    for chunk in chunks[1:]:
        message = message + chunk
    return message


def seen_of(message: Any) -> Seen:
    return {"type": type(message).__name__, "text": message.text, "usage": message.usage_metadata}
