"""What makes the page live: server-sent events that say that something has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

PATIENCE: Final = 15.0
"""Seconds without news after which a line is sent all the same, so that a lost connection is noticed."""
LOOK: Final = 0.5
"""Seconds after which it is looked whether the server stops: it waits for those who listen."""
PAUSE: Final = 0.5
"""Seconds between two pieces of news: under load something arrives all the time."""
ADDRESS: Final = "/live"


class Changes(Protocol):
    """Counts what has changed."""

    @property
    def revision(self) -> int:
        """How often something has changed; another number after each change."""
        ...

    async def wait(self, after: int, timeout: float) -> int:
        """Return the revision as soon as it is another than this one, and after so many seconds at the latest."""
        ...


class Live:
    """Tells browsers that something has arrived.

    Args:
        changes: counts what has changed.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.routes = [Route(ADDRESS, self.events)]

    async def events(self, request: Request) -> Response:
        """Send an event with the revision each time that it has changed since the page was made."""
        said = request.query_params.get("after", "")
        after = int(said) if said.isascii() and said.isdigit() and len(said) < 19 else self._changes.revision
        news = self._news(after, lambda: bool(request.app.state.stopping))
        return StreamingResponse(news, 200, {"Cache-Control": "no-store"}, "text/event-stream")

    async def _news(self, after: int, is_stopping: Callable[[], bool]) -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        silent = 0.0
        while not is_stopping():
            revision = await self._changes.wait(after, LOOK)
            silent += LOOK
            if revision != after:
                yield f"data: {revision}\n\n"
                after, silent = revision, 0.0
                await asyncio.sleep(PAUSE)
            elif silent >= PATIENCE:
                yield ": nothing new\n\n"
                silent = 0.0
