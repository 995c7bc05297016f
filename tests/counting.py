"""Servers that count their responses, as Ollama and others do, and begin again when they restart."""

from __future__ import annotations

import itertools
import json
from typing import Any

from answered import client_of, httpx


class CountingServer:
    """Names its responses ``resp_1``, ``resp_2``, …; knows no response of before its restart."""

    def __init__(self, host: str, first: int = 1) -> None:
        """Args: its host, and where it begins to count."""
        self.host = host
        self._first = first
        self.restart()
        self.client = client_of(self._answer, base_url=f"http://{host}/v1")

    def restart(self) -> None:
        """Begin again."""
        self._count = itertools.count(self._first)
        self._replies: dict[str, dict[str, Any]] = {}

    def _answer(self, request: Any) -> Any:
        if request.method == "GET":
            reply = self._replies.get(request.url.path.rpartition("/")[2])
            return httpx.Response(200, json=reply) if reply else httpx.Response(404, json={"detail": "not found"})
        body = json.loads(request.content)
        reply = {name: body.get(name) for name in ("model", "previous_response_id", "metadata", "conversation")}
        reply |= {"id": f"resp_{next(self._count)}", "object": "response", "status": "completed", "output": []}
        self._replies[reply["id"]] = reply
        return httpx.Response(200, json=reply)

    def respond(self, **arguments: Any) -> str:
        """Make a turn; return its response's id."""
        return self.client.responses.create(**{"model": "m", "input": "x", **arguments}).id
