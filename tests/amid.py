"""Something that happens amid the package's own work, at a chosen line of it: a signal's handler, or Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

PACKAGE = "otel_llm_sessions"
ELSEWHERE = ("otel_llm_sessions.testing", "otel_llm_sessions.demo", "otel_llm_sessions.guard")

NOBODYS = {"__del__", "on_start"}
"""Functions amid which an exception reaches nobody who could end a span: finalizers, and the SDK's start of one."""


class Lines:
    """Runs ``happen`` before one line of the package's, counted from 0, as a signal's handler is run; or before each.

    Attributes:
        count: the lines that were run.
        seen: the frames' names and lines where it happened.
    """

    def __init__(self, happen: Callable[[Any], None], at: int | None = None) -> None:
        self._happen = happen
        self._at = at
        self.count = 0
        self.seen: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Watch the lines that this thread runs inside the block."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        module = frame.f_globals.get("__name__", "")
        is_ours = module.startswith(PACKAGE) and not module.startswith(ELSEWHERE)
        return self._line if is_ours else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.count += 1
            if self._at is None or self._at == self.count - 1:
                self._interrupt(frame)
        return self._line

    def _interrupt(self, frame: FrameType) -> None:
        if _is_nobodys(frame):
            return
        self.seen.append((frame.f_code.co_name, frame.f_lineno))
        before = sys.gettrace()
        sys.settrace(None)
        try:
            self._happen(frame)
        finally:
            sys.settrace(before)


def _is_nobodys(frame: FrameType) -> bool:
    return any(outer.f_code.co_name in NOBODYS for outer, _ in traceback.walk_stack(frame))
