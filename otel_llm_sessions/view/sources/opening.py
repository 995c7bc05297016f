"""Which source an address is."""

from __future__ import annotations

from collections.abc import Mapping

from otel_llm_sessions.view.source import Source
from otel_llm_sessions.view.sources.viewer import Viewer


def open_source(url: str, headers: Mapping[str, str] | None = None) -> Source:
    """Return the source at an address.

    Args:
        url: where it answers.
        headers: sent with each request.

    Raises:
        ValueError: the address is not valid.
        Unreachable: nothing answers there.
    """
    return Viewer(url, headers)
