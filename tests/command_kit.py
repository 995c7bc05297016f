"""A viewer that has the spans of a test, and the command in processes, on terminals too."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

from viewer_kit import app_of, serving
from web_kit import Asked

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

SECOND = 1_000_000_000
NOW = time.time_ns()
ids = count(1)


def root(session_id: str, trace_id: str, **attributes: object) -> ReceivedSpan:
    said = {"session.id": session_id, "llm_session.root": True, "llm_session.part": 1, **attributes}
    return _span("session", trace_id, "", said, NOW - 60 * SECOND)


def turn(above: ReceivedSpan, number: int, status: str = "UNSET", **attributes: object) -> ReceivedSpan:
    """A chat call below a root; attributes with ``__`` for dots."""
    said = {
        "session.id": above.attributes["session.id"],
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1_000 * number,
        "gen_ai.usage.output_tokens": 10 * number,
        "llm_session.turn": number,
        "llm_session.source": "chain",
        **{name.replace("__", "."): value for name, value in attributes.items()},
    }
    return _span("chat gpt-4o-mini", above.trace_id, above.span_id, said, NOW - (50 - number) * SECOND, status)


def _span(name, trace_id, parent, attributes, start, status="UNSET") -> ReceivedSpan:
    return ReceivedSpan(
        name=name,
        trace_id=trace_id,
        span_id=f"{next(ids):016x}",
        parent_id=parent,
        start=start,
        end=start + 250_000_000,
        attributes=attributes,
        status=status,
        resource={"service.name": "shop"},
    )


def messages(*said: tuple[str, object]) -> str:
    """Messages as the conventions' JSON; a text, or a list of parts."""
    return json.dumps(
        [
            {"role": role, "parts": [{"type": "text", "content": parts}] if isinstance(parts, str) else parts}
            for role, parts in said
        ]
    )


def conversation(session_id: str, turns: int = 2, trace: str = "5e", **attributes: object) -> list[ReceivedSpan]:
    """A session whose turns say nothing."""
    top = root(session_id, (trace * 16)[:32], **attributes)
    return [top, *(turn(top, number) for number in range(1, turns + 1))]


@dataclass
class There:
    """A viewer that runs: where, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def of(self, app: Any) -> Any:
        """The application, with each request noted."""

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = {name.decode(): value.decode() for name, value in scope["headers"]}
                said = dict(parse_qsl(scope["query_string"].decode()))
                self.asked.append(Asked(scope["raw_path"].decode(), said, headers))
            await app(scope, receive, send)

        noted.state = app.state  # who serves it looks there
        return noted


@contextmanager
def viewer(spans: Sequence[ReceivedSpan], logs: Sequence[ReceivedLog] = (), **options: Any) -> Iterator[There]:
    """The real page and API over a real database that has these spans."""
    with closing(Database()) as database:
        database.add(spans, logs)
        database.settle()
        there = There()
        with serving(there.of(app_of(database, **options))) as there.url:
            yield there


COMMAND = (sys.executable, "-m", "otel_llm_sessions.cli")
UNSET = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LC_ALL")
PREFIXES = ("PYTHON", "OTEL_")


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in UNSET and not name.startswith(PREFIXES)}
    return {**kept, "TERM": "xterm-256color", "TZ": "UTC", "LANG": "C.UTF-8", **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, its output in pipes."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment(**settings), timeout=60)


@dataclass(frozen=True)
class Seen:
    """What a terminal got, and how the process ended; ``errors`` is empty where they went to the terminal too."""

    bytes: bytes
    status: int
    errors: bytes = b""

    @property
    def text(self) -> str:
        return self.bytes.decode().replace("\r\n", "\n")


def on_terminal(*arguments: str, columns: int = 120, errors_too: bool = False, **settings: str) -> Seen:
    """The command on a terminal of its own; standard error goes to a pipe unless ``errors_too``."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if errors_too else subprocess.PIPE,
        env=environment(**settings),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = b"".join(iter(lambda: _read(ours), b""))
        errors = process.stderr.read() if process.stderr else b""
        return Seen(seen, process.wait(60), errors)
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
        os.close(ours)


def _read(ours: int) -> bytes:
    try:
        return os.read(ours, 65536)
    except OSError:  # Linux says EIO where the other side is closed
        return b""
