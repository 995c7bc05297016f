"""Text: what the user said, what the model answers, and how many tokens both are."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CHARACTERS_PER_TOKEN = 4
TEXT_KEYS = ("text", "content", "output", "arguments")
TOPIC_LENGTH = 60

# The first pattern that the user's text matches answers it.
KNOWN: tuple[tuple[str, str], ...] = (
    (r"continu|sequel|what happens next", "The robot opened its eyes again, and this time the garden was in bloom."),
    (r"robot", "Deep in the old greenhouse a small robot named Pip learned to water the last rose by hand."),
    (r"capital of france", "The capital of France is Paris."),
    (r"capital of italy", "The capital of Italy is Rome."),
    (r"\bweather\b", "It is mild and mostly sunny, around 21 °C, with a light breeze from the west."),
    (r"\bjoke\b", "A span walks into a bar; the bartender asks who its parent is."),
    (r"\bthank", "You are welcome, glad that it helped."),
    (r"^(hi|hello|hey)\b", "Hello, what can I do for you today?"),
    (r"summar", "In short: it started small, it was measured, and what worked was kept."),
)
GENERIC: tuple[str, ...] = (
    "The short version of {topic}: start small, measure, and keep what works.",
    "There are three things to know about {topic}: where it starts, what it costs, and when to stop.",
    "Most people meet {topic} by accident and stay because it saves them an afternoon a week.",
    "As for {topic}, begin with the simplest case; the rest follows from it.",
)
LEAD = re.compile(
    r"^(please|can you|could you|would you|tell me|explain|describe|write|give me|say|what is|what are|what's|who is"
    r"|how do i|how does|how do|why is|why do|about|me|to|a|an|the)\s+",
    re.IGNORECASE,
)


def plain_text(content: Any) -> str:
    """The text in a message's content, an input item, or a list of either; empty when there is none."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return next(filter(None, (plain_text(content.get(key)) for key in TEXT_KEYS)), "")
    if isinstance(content, Sequence):
        return " ".join(filter(None, map(plain_text, content)))
    return ""


def entries(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list that a caller sent; anything else in it, or in its place, is left out."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def last_user_text(messages: Any) -> str:
    """What the user said last, in chat messages or in a Responses input."""
    said = (plain_text(entry) for entry in reversed(entries(messages)) if entry.get("role") == "user")
    return next(filter(None, said), "") if isinstance(messages, list) else plain_text(messages)


def topic(text: str) -> str:
    """What the text is about: its first sentence without question marks and opening words."""
    subject = re.split(r"[.?!\n]", text.strip())[0].strip()
    while (shorter := LEAD.sub("", subject)) != subject:
        subject = shorter
    return subject[:TOPIC_LENGTH].strip() or "that"


def answer(text: str, variant: int = 0) -> str:
    """A short, believable sentence; the same for the same text and variant."""
    for pattern, sentence in KNOWN:
        if variant == 0 and re.search(pattern, text, re.IGNORECASE):
            return sentence
    chosen = (zlib.crc32(text.encode("utf-8", "replace")) + variant) % len(GENERIC)
    return GENERIC[chosen].format(topic=topic(text))


def pieces(text: str) -> Iterator[str]:
    """The text in the pieces a stream sends: words with the space before them."""
    return (found.group() for found in re.finditer(r"\s*\S+\s*$|\s*\S+|\s+$", text))


def tokens(value: Any) -> int:
    """How many tokens the value is, by the length of its text."""
    if value is None or value in ("", [], {}):
        return 0
    text = value if isinstance(value, str) else json.dumps(value)
    return -(-len(text) // CHARACTERS_PER_TOKEN)
