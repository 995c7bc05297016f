"""TLS in front of a server that has none: what servers built without OpenSSL need."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType


class TlsFront:
    """Takes TLS connections on a free port and passes on what they carry to another port; a context manager.

    One loop does it all: a TLS socket is not to be read and written by two threads at once.
    """

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self.port = 0
        self._target = target
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> TlsFront:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=self._context)

    async def _close(self) -> None:
        self._server.close()
        ours = asyncio.all_tasks() - {asyncio.current_task()}
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            with contextlib.suppress(asyncio.CancelledError, OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                writers.append(far_writer)
                await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            for each in writers:
                each.transport.abort()
                with contextlib.suppress(OSError):
                    await each.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
