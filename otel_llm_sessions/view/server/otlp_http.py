"""OTLP over HTTP: protobuf and JSON, compressed or not, each request bounded in size, depth and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from otel_llm_sessions.view.server.crowding import Crowded, read_within
from otel_llm_sessions.view.server.intake import RETRY_AFTER, Full, Intake, Room, Unwritable
from otel_llm_sessions.view.server.otlp_answers import (
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    JSON,
    MOST,
    PROTOBUF,
    RESOURCE_EXHAUSTED,
    SIGNALS,
    UNAVAILABLE,
    Signal,
    encoded,
    status,
)

SECONDS: Final = 30.0
"""In which a request's body has to arrive."""
SMALL: Final = 1 << 16
"""Bytes of a body that is read at once; a greater one is read in a thread, so that others are answered meanwhile."""
PIECE: Final = 1 << 20
"""Bytes of it that are decompressed at a time."""
COMPRESSED: Final = frozenset({"gzip", "deflate"})
MEMBERS: Final = 100
"""Compressed pieces that a body has one after the other at most: after each, all that follows is copied."""
WINDOW: Final = 47
"""Tells zlib: 32 KiB, gzip or deflate by its first bytes."""

Forward = Callable[[str, str, str, bytes], None]
"""Is given what was taken: path, media type, encoding, and the body as it came."""


@dataclass(slots=True)
class Refused(Exception):
    """A request is answered with an error."""

    code: int
    """Of HTTP."""
    reason: int
    """Of ``google.rpc.Status``."""
    message: str


def too_large() -> Refused:
    """What a request is answered that has too many bytes."""
    return Refused(413, INVALID_ARGUMENT, f"a request has at most {MOST:,} bytes, before and after decompression")


def otlp_routes(intake: Intake, forward: Forward | None = None) -> list[Route]:
    """The routes by which traces, metrics and logs arrive.

    Args:
        intake: what writes them.
        forward: passes them on.
    """
    return [
        Route(signal.path, _Endpoint(signal, intake, forward), methods=["POST"], name=signal.path) for signal in SIGNALS
    ]


class _Endpoint:
    """Answers the requests of one signal; an instance is an ASGI application."""

    def __init__(self, signal: Signal, intake: Intake, forward: Forward | None) -> None:
        self._signal = signal
        self._intake = intake
        self._forward = forward

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            response = await self._answer(request, media_type)
        except Refused as error:
            response = _refusal(error, media_type)
        except Full:
            message = "more arrives than can be written: try again"
            response = _refusal(Refused(429, RESOURCE_EXHAUSTED, message), media_type)
        except Unwritable as error:
            response = _refusal(Refused(503, UNAVAILABLE, f"the database cannot be written to: {error}"), media_type)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request, media_type: str) -> Response:
        if media_type not in (PROTOBUF, JSON):
            raise Refused(415, INVALID_ARGUMENT, f"expected {PROTOBUF} or {JSON}, not {media_type or 'nothing'}")
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", *COMPRESSED):
            raise Refused(415, INVALID_ARGUMENT, f"expected gzip, deflate or no encoding, not {encoding}")
        body = await self._body(request)
        try:
            message, size = await self._read(body, encoding, media_type)
            was_taken = await self._kept(message, size)
        finally:
            self._intake.room.give(len(body))
        if self._forward and was_taken:
            self._forward(self._signal.path, media_type, encoding, body)
        answer = self._signal.answer(message, was_taken=was_taken)
        return Response(encoded(answer, media_type), media_type=media_type)

    async def _body(self, request: Request) -> bytes:
        """The body as it came, for which room is taken."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and (len(length) > 18 or int(length) > MOST):
            raise too_large()
        body = bytearray()
        try:
            await asyncio.wait_for(self._fill(body, request), SECONDS)
        except asyncio.TimeoutError:
            self._intake.room.give(len(body))
            message = f"a request's body has to arrive within {SECONDS:g} seconds"
            raise Refused(408, DEADLINE_EXCEEDED, message) from None
        except BaseException:
            self._intake.room.give(len(body))
            raise
        return bytes(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        async for chunk in request.stream():
            if len(body) + len(chunk) > MOST:
                raise too_large()
            self._intake.room.take(len(chunk))
            body += chunk

    async def _read(self, body: bytes, encoding: str, media_type: str) -> tuple[Any, int]:
        """The message, and how many bytes it takes."""
        if len(body) < SMALL and encoding not in COMPRESSED and media_type == PROTOBUF:
            return self._parsed(body, media_type)
        return await asyncio.to_thread(self._unpacked, body, encoding, media_type)

    def _unpacked(self, body: bytes, encoding: str, media_type: str) -> tuple[Any, int]:
        return self._parsed(decompressed(body, self._intake.room) if encoding in COMPRESSED else body, media_type)

    def _parsed(self, body: bytes, media_type: str) -> tuple[Any, int]:
        try:
            return read_within(self._intake.room, body, media_type, self._signal.read)
        except Crowded as error:
            raise Refused(413, INVALID_ARGUMENT, str(error)) from None
        except (DecodeError, ValueError) as error:
            raise Refused(400, INVALID_ARGUMENT, f"no such request: {error}") from None

    async def _kept(self, message: Any, size: int) -> bool:
        if self._signal.path == "/v1/metrics":  # a viewer of sessions has no use for them
            return True
        return await asyncio.wrap_future(self._intake.put(message, size))


def decompressed(body: bytes, room: Room) -> bytes:
    """What a body is, decompressed; while that goes on, room is taken for it.

    Raises:
        Refused: it is too much, or broken.
        Full: there is no room for it now.
    """
    plain, members = bytearray(), 0
    try:
        while body:
            members += 1
            if members > MEMBERS:
                raise zlib.error("it is in too many pieces")
            reading = zlib.decompressobj(WINDOW)
            while not reading.eof:
                piece = reading.decompress(body, PIECE)
                body = reading.unconsumed_tail
                if not piece and not reading.eof:
                    raise zlib.error("it ends too early")
                if len(plain) + len(piece) > MOST:
                    raise too_large()
                room.take(len(piece))
                plain += piece
            body = reading.unused_data
        return bytes(plain)
    except zlib.error as error:
        raise Refused(400, INVALID_ARGUMENT, f"the body cannot be decompressed: {error}") from None
    finally:
        room.give(len(plain))


def _refusal(refused: Refused, media_type: str) -> Response:
    said = media_type if media_type in (PROTOBUF, JSON) else JSON
    headers = {"Retry-After": str(RETRY_AFTER)} if refused.code in (429, 503) else None
    retry_after = RETRY_AFTER if headers else 0
    return Response(status(refused.reason, refused.message, said, retry_after), refused.code, headers, said)
