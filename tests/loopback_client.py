"""What clients of the loopback server are made with."""

from __future__ import annotations

from typing import Any

from loopback import LoopbackServer

MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Hello"}]


def options_for(server: LoopbackServer) -> dict[str, Any]:
    """A client's options. (Its HTTP client comes without certificates: to read them takes 100 times as long.)"""
    return {"base_url": server.base_url, "api_key": "test", "max_retries": 0}


THINKING: dict[str, Any] = {"extra_headers": {"x-loopback-mode": "delay=5"}}
"""For a call to a model that takes its time, as models do: it replies when the provider has said what is looked up
(with the fixture ``thinks_meanwhile``)."""
