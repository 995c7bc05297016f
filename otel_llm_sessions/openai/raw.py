"""Raw and streaming responses: what the application reads of the body is observed as it reads it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.event_lines import EventLines
from otel_llm_sessions.openai.hooks import watch_reading
from otel_llm_sessions.openai.observing import see
from otel_llm_sessions.openai.response import INVALID_RESPONSE
from otel_llm_sessions.openai.watch import Watch, note_emptiness
from otel_llm_sessions.telemetry.values import error_type_of

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body, or of one event, that are kept to be read; of a longer one only the end is noticed."""

DONE = b"[DONE]"
"""What the client takes for the end of a stream, whatever follows."""


_decoded: Final = json.JSONDecoder().decode


def parse(content: bytes | str) -> Any:
    """Return the JSON value of a body; None if it has none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return None


def _parse_event(data: bytes) -> Any:
    """Return the JSON value of an event, which is UTF-8 and nothing else to the client; None if it has none."""
    try:
        return _decoded(data.decode())
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
        if not self._pieces and (data := self._events.alone(piece)) is not None:
            self._size = 0
            self._data(data)
            return self._done() if self._is_done else None
        if b"\n" not in piece and b"\r" not in piece:
            self._pieces.append(piece)
            return
        lines = b"".join((*self._pieces, piece)).splitlines(keepends=True)
        last = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        self._pieces = [last] if last else []
        self._after_cr = piece.endswith(b"\r")
        for line in lines:
            self._line(line.rstrip(b"\r\n"))
            if self._is_done:
                return self._done()
        self._size = len(last) + self._events.size

    def _done(self) -> None:
        note_emptiness(self._call)
        finish(self._call)

    def _line(self, line: bytes) -> None:
        data = self._events.take(line)
        if data is not None:
            self._data(data)

    def _data(self, data: bytes) -> None:
        if data.startswith(DONE):
            self._is_done = True
        elif data:
            self._event(data)
        else:
            self._stumble()

    def _event(self, data: bytes) -> None:
        event = _parse_event(data)
        if isinstance(event, dict):
            see(self._call, event)
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

    @property
    def is_full(self) -> bool:
        """Whether the body is too long to be read any further."""
        return self._size > MAX_BODY

    def complete(self) -> None:
        """Read what is left when the body is complete."""
        self._go_on()
        if self.is_full:
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


class EncodedReader:
    """Reads a body that comes encoded (gzip, brotli, …) by a decoder of its own: the application's is left alone."""

    def __init__(self, reader: BodyReader, response: Any, call: Call) -> None:
        self._reader = reader
        self._call = call
        self._http_response = weakref.ref(response)
        self._decoder = _decoder_for(response)
        self._has_failed = False

    def feed(self, piece: bytes) -> None:
        """As the other reader's."""
        if self._decoder is not None:
            self._read(self._decoder.decode, piece)
            if self._has_failed:
                finish(self._call, cut_short=self._call.request.stream)

    def complete(self) -> None:
        """As the other reader's."""
        if self._decoder is not None:
            self._read(self._decoder.flush)
        if self._decoder is not None:
            self._reader.complete()

    def _read(self, decode: Callable[..., Any], *piece: bytes) -> None:
        for part in self._decoded(decode, *piece):
            self._reader.feed(part)
            if self._reader.is_full:
                self._decoder = None
                break

    def _decoded(self, decode: Callable[..., Any], *piece: bytes) -> Iterator[bytes]:
        try:
            # Bytes, and with httpx2 an iterator that keeps a bomb from going off at once.
            decoded = decode(*piece)
            yield from (decoded,) if isinstance(decoded, bytes) else decoded
        except Exception as error:
            pass_on(error)
            self._decoder = None
            # Where the application has the body decoded, that is about to fail likewise.
            if getattr(self._http_response(), "_decoder", None) is not None:
                self._has_failed = True
                self._call.reply.error_type = error_type_of(error)


def _decoder_for(response: Any) -> Any:
    """Return a decoder as the response will have one when it is read; None if there is none for it."""
    try:
        kind = response.__class__
        like = kind.__new__(kind)
        like.headers = response.headers
        return like._get_content_decoder()  # httpx 0.23 to httpx2 2.16
    except Exception as error:  # an encoding that it refuses, a class of the application's
        pass_on(error)
        return None


def _is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def is_read(response: Any) -> bool:
    """Whether the body of an HTTP response is there already, as where an event hook has read it."""
    return hasattr(response, "_content")


def read_whole(response: Any, call: Call) -> None:
    """Read an HTTP response that has been read already, and end the call."""
    reader = BodyReader(call, _content_type(response))
    reader.feed(response.content)
    reader.complete()
    finish(call)


def watch_http(response: Any, call: Call) -> None:
    """Observe an HTTP response.

    Args:
        response: the client's HTTP response (``httpx2``, ``httpx`` with older clients), read or not.
        call: the call it answers.
    """
    call.runtime.costs.see_headers(call.reply, response, is_stream=call.request.stream)
    if is_read(response):
        return read_whole(response, call)
    if response.is_closed:  # by whoever read it piece by piece, and kept nothing: nothing comes any more
        return finish(call, cut_short=call.request.stream)
    plain = BodyReader(call, _content_type(response))
    reader = EncodedReader(plain, response, call) if response.headers.get("content-encoding") else plain
    watch_reading(response, Watch(call, reader.feed, reader.complete))
    return None


def _content_type(response: Any) -> str:
    return str(response.headers.get("content-type", ""))
