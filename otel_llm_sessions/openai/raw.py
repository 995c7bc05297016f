"""Raw and streaming responses: what the application reads of the body is observed as it reads it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.event_lines import EventLines
from otel_llm_sessions.openai.response import INVALID_RESPONSE
from otel_llm_sessions.openai.watch import AsyncWatched, Watch, note_emptiness, watched

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body, or of one event, that are kept to be read; of a longer one only the end is noticed."""

DONE = b"[DONE]"
"""What the client takes for the end of a stream, whatever follows."""


def parse(content: bytes | str) -> Any:
    """Return the JSON value of a body; None if it has none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return None


class BodyReader:
    """Puts the pieces of a body together and reads what it says: one JSON document, or server-sent events.

    Which of them, the client decides by what it asked for, whatever the content type says (openai 1.66 to 3.57), and so
    does this.
    """

    def __init__(self, call: Call, content_type: str) -> None:
        self._call = call
        asked = call.request
        self._is_events = asked.stream or (asked.is_body_for_events and _is_event_stream(content_type))
        self._pieces: list[bytes] = []
        self._size = 0
        self._events = EventLines()
        self._after_cr = False
        self._is_done = False
        self._has_stumbled = False

    def feed(self, piece: bytes) -> None:
        """Take in the next piece."""
        if self._is_done:
            return
        self._go_on()
        self._size += len(piece)
        if self._size > MAX_BODY:
            self._pieces.clear()
            self._events.data.clear()
        elif self._is_events:
            self._feed_events(piece)
        else:
            self._pieces.append(piece)

    def _feed_events(self, piece: bytes) -> None:
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")  # the other half of a line's end
            self._after_cr = False
        if b"\n" not in piece and b"\r" not in piece:
            self._pieces.append(piece)
            return
        lines = b"".join((*self._pieces, piece)).splitlines(keepends=True)
        last = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        self._pieces = [last]
        self._after_cr = piece.endswith(b"\r")
        for line in lines:
            self._line(line.rstrip(b"\r\n"))
            if self._is_done:
                return self._done()
        self._size = len(last) + self._events.size

    def _done(self) -> None:
        note_emptiness(self._call)
        self._call.finish()

    def _line(self, line: bytes) -> None:
        data = self._events.take(line)
        if data is None:
            return
        if data.startswith(DONE):
            self._is_done = True
        elif data:
            self._event(data)
        else:
            self._stumble()

    def _event(self, data: bytes) -> None:
        event = parse(data)
        if isinstance(event, dict):
            self._call.see(event)
        elif event is None and data.strip() != b"null":
            self._call.reply.error_type = INVALID_RESPONSE

    def _stumble(self) -> None:
        """Note that the client's stream raises here; who reads the body without it asks for the next piece."""
        if self._call.reply.error_type is None:
            self._call.reply.error_type = INVALID_RESPONSE
            self._has_stumbled = True

    def _go_on(self) -> None:
        if self._has_stumbled:
            self._call.reply.error_type = None
            self._has_stumbled = False

    def complete(self) -> None:
        """Read what is left when the body is complete."""
        self._go_on()
        if self._size > MAX_BODY:
            return
        if self._is_events:
            rest = b"".join(self._pieces)
            if rest:
                self._line(rest)
            if self._events.data:
                self._line(b"")
            note_emptiness(self._call)
        else:
            self._call.read(parse(b"".join(self._pieces)))


def _is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def watch_http(response: Any, call: Call) -> None:
    """Observe an HTTP response.

    Args:
        response: the client's HTTP response (``httpx2``, ``httpx`` with older clients), read or not.
        call: the call it answers.
    """
    reader = BodyReader(call, response.headers.get("content-type", ""))
    if hasattr(response, "_content"):
        reader.feed(response.content)
        reader.complete()
        return call.finish()
    watch = Watch(call, reader.feed, reader.complete)
    read, aread = response.iter_bytes, response.aiter_bytes

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        return watched(read(*args, **kwargs), watch)

    def aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        return AsyncWatched(aread(*args, **kwargs), watch)

    # Every way to read a body but iter_raw() goes through these two (httpx 0.25 to httpx2 2.16).
    watch.hook(response, iter_bytes=iter_bytes, aiter_bytes=aiter_bytes)
    return None
