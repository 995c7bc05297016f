"""The application as tasks of Celery's: each turn is a task, whose span the call's stands below."""

from __future__ import annotations

import asyncio
from typing import Any

from app_client import TURNS, Seen, Turn, asay, say
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.transport import TRANSPORT_ALIASES, memory
from openai import AsyncOpenAI, OpenAI

ENDS_WITHIN = 60.0
LOOKS_EVERY = 0.01
"""Seconds after which a worker looks for a task, and whether it is to end, and who waits for a result looks again.

Celery's are 1, 2 and 0.5 (5.7): five minutes for all that is played.
"""


class Memory(memory.Transport):
    """A broker in memory, of which a worker that waits is told soon that there is nothing."""

    polling_interval = LOOKS_EVERY

    def drain_events(self, connection: Any, timeout: float | None = None) -> Any:
        return super().drain_events(connection, timeout and LOOKS_EVERY)


TRANSPORT_ALIASES["memory"] = f"{__name__}:{Memory.__name__}"
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
            asked = ask.delay(Turn(api, text, f"{api} {way}", previous), way)
            seen, previous = asked.get(timeout=ENDS_WITHIN, interval=LOOKS_EVERY)
            found.append(seen)
    return found
