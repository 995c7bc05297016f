"""Texts of messages, cut into what is read in different ways: prose, code, JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions.view.server.texts import readable_json

FENCES: Final = ("```", "~~~")
LANGUAGE: Final = re.compile(r"[A-Za-z0-9+#._-]{1,20}")
INLINE: Final = re.compile(r"`([^`\n]{1,500})`|\*\*([^*\n]{1,500})\*\*")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a text.

    Args:
        kind: ``prose`` or ``code``.
        text: what it says.
        language: of code, as far as the text says it.
        pieces: of prose, each with what it is: ``plain``, ``code`` or ``strong``.
    """

    kind: str
    text: str
    language: str = ""
    pieces: tuple[tuple[str, str], ...] = ()


def blocks(text: str) -> list[Block]:
    """Cut a text at its fences; a text that is JSON as a whole is laid out as people read it."""
    if whole := readable_json(text):
        return [Block("code", whole, "json")]
    return [block for block in _cut(text) if block.text.strip()]


def _cut(text: str) -> Iterator[Block]:
    lines: list[str] = []
    fence = language = opening = ""
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if not fence and bare.startswith(FENCES):
            yield _prose(lines)
            fence, language, opening, lines = bare[:3], _language(bare), line, []
        elif fence and bare.startswith(fence) and not bare.strip(fence[0]):
            yield Block("code", "".join(lines).rstrip("\n"), language)
            fence, lines = "", []
        else:
            lines.append(line)
    is_code = fence and lines
    yield Block("code", "".join(lines).rstrip("\n"), language) if is_code else _prose([opening] if fence else lines)


def _language(line: str) -> str:
    found = LANGUAGE.match(line.lstrip("`~").strip()[:40])
    return found[0] if found else ""


def _prose(lines: list[str]) -> Block:
    text = "".join(lines).strip("\n")
    return Block("prose", text, pieces=tuple(_pieces(text)))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    for found in INLINE.finditer(text):
        yield "plain", text[end : found.start()]
        yield ("code", found[1]) if found[1] else ("strong", found[2])
        end = found.end()
    yield "plain", text[end:]
