"""The application as tasks of Celery's: each turn is a task, whose span the call's stands below."""

from __future__ import annotations

import asyncio
from typing import Any

from app_client import TURNS, Seen, Turn, asay, say
from celery import Celery
from celery.contrib.testing.worker import start_worker
from openai import AsyncOpenAI, OpenAI

ENDS_WITHIN = 60.0

app = Celery("tasks", broker="memory://", backend="cache+memory://")


@app.task
def ask(turn: list[Any], way: str) -> Any:
    """One turn, in the worker."""
    return asyncio.run(_aask(Turn(*turn), way)) if way.startswith("a") else _ask(Turn(*turn), way)


def _ask(turn: Turn, way: str) -> Any:
    with OpenAI() as client:
        return say(client, turn, way == "stream")


async def _aask(turn: Turn, way: str) -> Any:
    async with AsyncOpenAI() as client:
        return await asay(client, turn, way == "astream")


def talk(api: str, way: str) -> list[Seen]:
    """Two turns, a task each."""
    found, previous = [], None
    with start_worker(app, perform_ping_check=False):
        for text in TURNS:
            seen, previous = ask.delay(Turn(api, text, f"{api} {way}", previous), way).get(timeout=ENDS_WITHIN)
            found.append(seen)
    return found
