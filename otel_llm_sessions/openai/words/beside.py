"""What the deltas of a streamed chat message say beside its content: reasoning, sounds, images, sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.openai.fields import field, items_of
from otel_llm_sessions.openai.words.plain import decoded_size

PART: Final = 1000
"""What an entry of a list counts for in the size of a reply: it may be anything."""

TEXTS: Final = ("reasoning_content", "reasoning")
LISTS: Final = ("reasoning_details", "images", "annotations")


class Beside:
    """What has come of one message."""

    __slots__ = ("_heard", "_lists", "_texts", "_transcript")

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._heard = 0
        self._transcript: list[str] = []

    def add(self, extras: Mapping[str, Any], audio: Any) -> int:
        """Take in a delta; return how much it brought.

        Args:
            extras: the fields that the client's model does not know.
            audio: what it says of a sound; None of most.
        """
        size = self._hear(field(audio, "data"), field(audio, "transcript")) if audio else 0
        return size + self._add(extras) if extras else size

    def _add(self, extras: Mapping[str, Any]) -> int:
        size = 0
        for name in TEXTS:
            if (text := extras.get(name)) and isinstance(text, str):
                self._texts.setdefault(name, []).append(text)
                size += len(text)
        for name in LISTS:
            if found := items_of(extras.get(name)):
                self._lists.setdefault(name, []).extend(found)
                size += PART * len(found)
        return size

    def _hear(self, data: Any, transcript: Any) -> int:
        """Take in a piece of sound, of which only the size is kept."""
        if isinstance(data, str):
            self._heard += decoded_size(data)
        if not isinstance(transcript, str):
            return 0
        self._transcript.append(transcript)
        return len(transcript)

    def whole(self) -> dict[str, Any]:
        """Return the fields that a whole message would have, of sound the size in bytes in the place of its data."""
        said: dict[str, Any] = {name: "".join(texts) for name, texts in self._texts.items()}
        if self._heard or self._transcript:
            said["audio"] = {"size": self._heard, "transcript": "".join(self._transcript)}
        return {**said, **self._lists}
