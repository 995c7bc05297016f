"""Where the demo's spans go: a viewer of its own, started as a user starts it and asked as ``list`` asks one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final

from otel_llm_sessions.demo.processes import Processes, TimedOut
from otel_llm_sessions.view.query import MOST, Query
from otel_llm_sessions.view.sessions import Session, sessions_of
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.viewer import Viewer

COMMAND: Final = (
    *("-m", "otel_llm_sessions.cli", "view", "--host", "127.0.0.1"),
    *("--http-port", "0", "--grpc-port", "0", "--no-open"),
)
PAGE: Final = "page  "
SECOND_LINE: Final = "OTLP  "
LATE: Final = 5.0
"""Seconds in which what was sent has to be in the list."""
SLICE: Final = 0.05


class NotStarted(Exception):
    """The viewer does not run; the message has what it said."""


class Receiving:
    """A viewer for the demo, on a free port.

    Args:
        processes: ends it.
        timeout: seconds in which it has to be there.
        forward: the address of another receiver of OTLP over HTTP that is to get everything as well; empty for none.

    Raises:
        NotStarted: it is not there in time.
    """

    def __init__(self, processes: Processes, timeout: float, forward: str = "") -> None:
        self._processes = processes
        more = ("--forward", forward) if forward else ()
        self._process = processes.start([sys.executable, *COMMAND, *more], os.environ)
        try:
            line = processes.first_line(self._process, timeout)
        except TimedOut:
            raise NotStarted(f"nothing within {timeout:g} s") from None
        if not line.startswith(PAGE):
            raise NotStarted(f"{line}\n{processes.finish(self._process, timeout)}".rstrip())
        self.url: Final = line.removeprefix(PAGE).rstrip("/")
        """Where the page is, and where OTLP over HTTP is received."""
        self._viewer = Viewer(self.url)

    def count(self) -> int:
        """How many sessions there are by now."""
        try:
            return len(self._viewer.sessions(Query(limit=MOST)).sessions)
        except Unreachable:
            return 0

    def sessions(self, are_all: Callable[[list[Session]], bool]) -> list[Session]:
        """Return the sessions, as soon as they are all there, or what there is of them in the end.

        Raises:
            Unreachable: the viewer does not answer any more.
        """
        until = time.monotonic() + LATE
        while not are_all(found := self._read()) and time.monotonic() < until:
            time.sleep(SLICE)
        return found

    def wait(self) -> None:
        """Keep it running until a signal comes; raises Interrupted then."""
        while self._process.poll() is None:
            try:
                self._processes.first_line(self._process, SLICE)
            except TimedOut:
                continue

    def end(self) -> str:
        """End it; what waits to be passed on gets a moment. Return what it had to say meanwhile."""
        self._process.terminate()
        said = self._processes.finish(self._process, LATE).splitlines()
        # The second of its first two lines may have been read with the first, or not.
        return "\n".join(line for line in said if not line.startswith(SECOND_LINE)).strip()

    def _read(self) -> list[Session]:
        rows = self._viewer.sessions(Query(limit=MOST)).sessions
        arrived = [found for row in rows if (found := self._viewer.session(row.id))]
        spans = [span for each in arrived for span in each.spans]
        return sessions_of(spans, [log for each in arrived for log in each.logs])
