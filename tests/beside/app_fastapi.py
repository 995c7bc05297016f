"""The application as a service of FastAPI's: each turn is a request, whose span the call's stands below."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import fastapi
import httpx2
from app_client import MODEL, TURNS, Seen, Turn, asay, resource, say, seen_of_stream
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAI


def talk(api: str, way: str) -> list[Seen]:
    """Two turns, a request each."""
    return asyncio.run(_talk(api, way))


async def _talk(api: str, way: str) -> list[Seen]:
    found, previous = [], ""
    transport = httpx2.ASGITransport(app=service())
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as visitor:
        for text in TURNS:
            asked = {"api": api, "text": text, "session": f"{api} {way}", "previous": previous}
            seen, previous = (await visitor.get(f"/{way}", params=asked)).json()
            found.append(seen)
    return found


def service() -> fastapi.FastAPI:
    """The service, made by the class that an instrumentation may have put in the place of FastAPI's."""
    app = fastapi.FastAPI()

    @app.get("/sync")
    def sync(api: str, text: str, session: str, previous: str) -> Any:
        with OpenAI() as client:
            return say(client, Turn(api, text, session, previous or None), False)

    @app.get("/async")
    async def asynchronous(api: str, text: str, session: str, previous: str) -> Any:
        async with AsyncOpenAI() as client:
            return await asay(client, Turn(api, text, session, previous or None), False)

    @app.get("/stream")
    def stream(api: str, text: str, session: str, previous: str) -> Any:
        return StreamingResponse(streamed(Turn(api, text, session, previous or None)))

    @app.get("/astream")
    async def astream(api: str, text: str, session: str, previous: str) -> Any:
        return StreamingResponse(astreamed(Turn(api, text, session, previous or None)))

    return app


def streamed(turn: Turn) -> Iterator[str]:
    """A blank for each chunk as it comes, then what was seen."""
    with OpenAI() as client:
        chunks = []
        for chunk in resource(client, turn.api).create(model=MODEL, stream=True, **turn.arguments()):
            chunks.append(chunk)
            yield " "
        yield json.dumps(seen_of_stream(chunks))


async def astreamed(turn: Turn) -> AsyncIterator[str]:
    async with AsyncOpenAI() as client:
        chunks = []
        async for chunk in await resource(client, turn.api).create(model=MODEL, stream=True, **turn.arguments()):
            chunks.append(chunk)
            yield " "
        yield json.dumps(seen_of_stream(chunks))
