"""How much is done for something, the same on a machine that has much else to do: steps of the package, own time."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import otel_llm_sessions

PACKAGE = str(Path(otel_llm_sessions.__file__).parent)


def own_seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes of this thread's own time: what else the machine does is not counted."""
    gc.collect()
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


class Effort(NamedTuple):
    """What a piece of work has taken."""

    steps: int
    """Instructions of Python's own (bytecodes) in the package's code, on this thread."""
    digested: int
    """Messages that a digest was made of."""


class Efforts:
    """Counts what pieces of work take.

    Example::

        efforts = Efforts(monkeypatch)
        early, late = efforts.of(lambda: turn(10)), efforts.of(lambda: turn(100))
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from otel_llm_sessions.openai import message

        self._digested = 0
        sha256 = message.sha256

        def counted(data: bytes) -> Any:
            self._digested += 1
            return sha256(data)

        monkeypatch.setattr(message, "sha256", counted)

    def of(self, work: Callable[[], Any]) -> Effort:
        """What a piece of work takes."""
        steps, digested = 0, self._digested

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal steps
            if event == "call":
                if not frame.f_code.co_filename.startswith(PACKAGE):
                    return None
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            elif event == "opcode":
                steps += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
        return Effort(steps, self._digested - digested)
