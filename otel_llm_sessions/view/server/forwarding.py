"""Passing on what arrives to a collector: as it came, in a thread of its own, and never in anybody's way."""

from __future__ import annotations

import sys
import threading
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from otel_llm_sessions.view.sources.opening import credentials_in

MOST_BYTES: Final = 32 * 1024 * 1024
"""Bytes that wait at most; what arrives when there are more is not passed on."""
SECONDS: Final = 10.0
LAST: Final = 5.0
"""Seconds for which what still waits is sent when the viewer ends."""
WAITS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds after which a request is tried again."""
AGAIN: Final = frozenset({429, 502, 503, 504})

Item = tuple[str, str, str, bytes]


class Forwarding:
    """Sends to another receiver of OTLP over HTTP.

    Args:
        url: its address, as ``http://collector:4318``, to which ``/v1/traces`` and the like are added. A user and
            password in it are sent as HTTP says (Basic), and are shown nowhere.

    Raises:
        ValueError: it is no such address.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or not url.isprintable():
                raise ValueError
        except ValueError:
            # Not with the address: what is not understood may have a password in any place.
            raise ValueError("--forward is not valid: expected an address as http://collector:4318") from None
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        self._is_tls, self._host = parts.scheme == "https", parts.hostname
        self._path = quote(parts.path.rstrip("/"), safe="/%!$&'()*+,;=:@~")
        self._credentials = credentials_in(parts)
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._unsent = 0
        self._news = threading.Condition()
        self._is_open = True
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="otel-llm-sessions-forward", daemon=True)

    def put(self, path: str, media_type: str, encoding: str, body: bytes) -> None:
        """Have a request passed on. Never waits, never raises."""
        with self._news:
            self._unsent += 1
            is_full = self._size + len(body) > MOST_BYTES
            if not is_full and self._is_open:
                self._waiting.append((path, media_type, encoding, body))
                self._size += len(body)
                self._news.notify()
        if is_full:
            self._failed(f"more than {MOST_BYTES:,} bytes wait")

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self, seconds: float = LAST) -> None:
        """Send what waits, once and for so many seconds at most, then end; how much was never taken is said."""
        with self._news:
            self._is_open = False
            self._news.notify_all()
        try:
            if self._thread.is_alive():
                self._thread.join(seconds)
        finally:  # also where somebody does not wait for it
            if self._thread.ident and (unsent := self._unsent):
                requests = "1 request was" if unsent == 1 else f"{unsent:,} requests were"
                print(f"--forward {self.url}: {requests} not passed on in all", file=sys.stderr, flush=True)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            if self._send(item):
                with self._news:
                    self._unsent -= 1

    def _next(self) -> Item | None:
        with self._news:
            while not self._waiting and self._is_open:
                self._news.wait()
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._size -= len(item[3])
            return item

    def _send(self, item: Item) -> bool:
        """Send a request, again and again if need be; whether it was taken."""
        for wait in (*WAITS, None):
            try:
                code = self._sent(item)
            except (OSError, HTTPException, ValueError) as error:  # ValueError: it cannot be written in HTTP
                self._failed(str(error) or type(error).__name__)
            else:
                if code < 300:
                    self._is_failing = False
                    return True
                self._failed(f"it answers {code}")
                if code not in AGAIN:
                    return False
            with self._news:
                # When the viewer ends, nothing is tried again: others may still wait for their turn.
                if wait is None or self._news.wait_for(lambda: not self._is_open, wait):
                    return False
        return False

    def _sent(self, item: Item) -> int:
        path, media_type, encoding, body = item
        kind = HTTPSConnection if self._is_tls else HTTPConnection
        connection = kind(self._host, self._port, timeout=SECONDS)
        try:
            headers = {"Content-Type": media_type, **self._credentials}
            headers |= {"Content-Encoding": encoding} if encoding else {}
            connection.request("POST", self._path + path, body, headers)
            answer = connection.getresponse()
            answer.read(1 << 16)
            return answer.status
        finally:
            connection.close()

    def _failed(self, why: str) -> None:
        """Say it once, until it goes well again."""
        if not self._is_failing:
            self._is_failing = True
            print(f"--forward {self.url} fails, what arrives is not passed on: {why}", file=sys.stderr, flush=True)
