"""What tests of spans' attributes share."""

from __future__ import annotations


def modes(*wanted: str) -> dict[str, str]:
    """The header that asks the loopback server for errors and oddities."""
    return {"x-loopback-mode": ",".join(wanted)}
