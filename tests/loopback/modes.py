"""The behaviours that a request asks for in its `x-loopback-mode` header."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import unquote

from otel_llm_sessions.demo.provider.api import OpenAIApi
from otel_llm_sessions.demo.provider.errors import ApiError, error_object, failure, refusal
from otel_llm_sessions.demo.provider.ids import Ids
from otel_llm_sessions.demo.provider.manner import Manner
from otel_llm_sessions.demo.provider.reply import (
    DONE,
    EVENT_STREAM,
    Json,
    Reply,
    chat_event,
    document,
    typed_event,
)
from otel_llm_sessions.demo.provider.request import Request

from .ids import LongIds, ShortIds
from .reply import OddReply, chunked

HEADER = "x-loopback-mode"
KEY_HEADER = "x-loopback-key"
HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
COMMENT = b": OPENROUTER PROCESSING\n\n"
BLANK_LINES = b"\n\n"
STREAM_ERROR = "The server had an error while processing your request."

# Modes that answer by themselves, in the order in which they are tried.
PRESETS: Mapping[str, Callable[[str], Reply]] = {
    "close": lambda _: OddReply(hangs_up=True),
    "status": lambda value: failure(int(value)),
    "html": lambda _: Reply(body=HTML, content_type="text/html; charset=utf-8"),
    "empty": lambda _: Reply(),
    "json": lambda value: Reply(body=unquote(value).encode()),
}
NUMBERS: Mapping[str, Callable[[str], float]] = {
    "status": int, "fail_first": int, "delay": float, "break": int, "error_event": int, "hold": int
}  # fmt: skip
FLAGS = frozenset({"failed", "incomplete", "no_usage", "crlf", "comments", "no_done", "short_ids", "long_ids"})
ALL = FLAGS | PRESETS.keys() | NUMBERS.keys()


class Modes(Manner):
    """The modes of one request; raises ApiError on a header that says nothing this server knows."""

    def __init__(self, header: str = "") -> None:
        parts = [part.strip().partition("=") for part in header.split(",") if part.strip()]
        self._values = {name.strip(): value.strip() for name, _, value in parts}
        for name, value in self._values.items():
            check(name, value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def number(self, name: str) -> int | None:
        """The mode's number, or None when it is not asked for."""
        return int(self._values[name]) if name in self._values else None

    @property
    def delay(self) -> float:
        """Seconds to wait before answering."""
        return float(self._values.get("delay", 0))

    def preset(self) -> Reply | None:
        """The reply of the first mode that answers by itself."""
        asked = (make(self._values[name]) for name, make in PRESETS.items() if name in self._values)
        return next(asked, None)

    @property
    def status(self) -> str:  # type: ignore[override]
        """How a response ends."""
        return "failed" if "failed" in self else "incomplete" if "incomplete" in self else "completed"

    @property
    def counts(self) -> bool:  # type: ignore[override]
        """Whether replies say how many tokens were used."""
        return "no_usage" not in self

    def ids(self) -> Ids:
        """The kind of ids to make."""
        return ShortIds() if "short_ids" in self else LongIds() if "long_ids" in self else Ids()

    def plain(self, value: Json) -> Reply:
        """A JSON reply with what its request's modes ask for."""
        made = document(value)
        body = BLANK_LINES + made.body if "comments" in self else made.body
        return OddReply(body=body, break_after=self.number("break"))

    def stream(self, events: list[Json], typed: bool) -> Reply:
        """The events as a stream, one chunk for each, with what the request's modes ask for."""
        encode = typed_event if typed else chat_event
        chunks = [encode(event) for event in events]
        if (count := self.number("error_event")) is not None:
            chunks[count:] = [encode(error_event(typed, min(count, len(events))))]
        elif not typed and "no_done" not in self:
            chunks.append(DONE)
        return OddReply(
            content_type=EVENT_STREAM,
            chunks=chunked(decorated(chunk, self) for chunk in chunks),
            break_after=self.number("break"),
            hold_after=self.number("hold"),
        )


def check(name: str, value: str) -> None:
    """Raise ApiError when the mode is unknown or its number is none."""
    try:
        NUMBERS.get(name, len)(value)
    except ValueError:
        raise ApiError(400, f"{HEADER}: {name} needs a number, not {value!r}") from None
    if name not in ALL:
        raise ApiError(400, f"{HEADER}: {name!r} is none of {', '.join(sorted(ALL))}")


def decorated(chunk: bytes, modes: Modes) -> bytes:
    """The chunk with a comment before it and with the line ends asked for."""
    commented = COMMENT + chunk if "comments" in modes else chunk
    return commented.replace(b"\n", b"\r\n") if "crlf" in modes else commented


def error_event(typed: bool, number: int) -> Json:
    """The event that reports a failure in the middle of a stream."""
    if not typed:
        return {"error": error_object(STREAM_ERROR, "server_error")}
    return {
        "type": "error", "code": "server_error", "message": STREAM_ERROR, "param": None, "sequence_number": number
    }  # fmt: skip


class FirstFailures:
    """Counts the requests of each key, for `fail_first`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def due(self, modes: Modes, key: str) -> bool:
        """Whether this request of the key is among the first that fail."""
        first = modes.number("fail_first")
        if first is None:
            return False
        with self._lock:
            self._seen[key] += 1
            return self._seen[key] <= first


class OddApi(OpenAIApi):
    """The API of a server that does what a request's modes ask for."""

    def __init__(self) -> None:
        super().__init__()
        self._failures = FirstFailures()

    def answer(self, request: Request) -> Reply:
        """The reply to a request, with whatever its modes ask for."""
        try:
            modes = Modes(request.headers.get(HEADER, ""))
            return replace(self._answer(request, modes), delay=modes.delay)
        except ApiError as error:
            return refusal(error)

    def _answer(self, request: Request, modes: Modes) -> Reply:
        if self._failures.due(modes, request.headers.get(KEY_HEADER, "")):
            return failure(500)
        return modes.preset() or self.handled(request, modes)
