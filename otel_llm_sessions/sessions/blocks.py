"""The blocks that generators have open: a block in a generator counts only while that generator runs.

A generator shares the context of whoever steps it, who is another piece of work: several of them are stepped in turn,
one is left for good, and a framework steps one in many threads. So a generator's block is attached to no context. It is
kept here, by the generator's frame, and counts where that frame is on the stack. A generator that contextlib drives, or
a test's fixture, is no piece of work of its own: its block is the block of whoever entered it.
"""

from __future__ import annotations

import functools
import opcode
import sys
import weakref
from collections.abc import Sequence
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import Final

from opentelemetry.context import Context

from otel_llm_sessions.sessions.inside import WITHIN_KEY, Inside

CONTEXTLIB: Final = frozenset({"contextlib", "contextlib2", "async_generator"})
"""Packages whose generators are context managers: what is done in them is done by whoever enters those."""

FIXTURES: Final = frozenset({"_pytest", "behave", "pluggy", "pytest_asyncio", "pytest_trio"})
"""Packages that step the generators which are tests' fixtures, and hooks of pytest."""

_ANYIO_FIXTURES: Final = "_run_tests_and_fixtures"
"""What does so in anyio (4.x), which steps generators of the application's elsewhere."""

_DELEGATING: Final = frozenset(opcode.opmap[name] for name in ("YIELD_FROM", "SEND") if name in opcode.opmap)
"""What a generator executes while ``yield from`` steps another (Python 3.10, and 3.11 to 3.13)."""

_GENERATOR: Final = CO_GENERATOR | CO_ASYNC_GENERATOR


_FEW: Final = 16
"""Up to so many generators are asked whether they run, before the stack is searched for them, which takes longer."""


class GeneratorBlock:
    """A block that a generator has open.

    It is held by the ``session(...)`` that opened it, which the generator's frame holds; the table below holds it
    weakly. So a generator that is abandoned, and whose block never ends, leaves nothing behind. It holds the frame, so
    that while it lives no other frame has the same identity.
    """

    __slots__ = ("__weakref__", "frame", "inside", "token")

    def __init__(self, frame: FrameType, inside: Inside) -> None:
        self.frame = frame
        self.inside = inside
        self.token = object()
        """Stands for the block in contexts, which may outlive it."""
        key = id(frame)
        OPEN.setdefault(key, []).append(weakref.ref(self, functools.partial(_forget, key)))

    def close(self) -> None:
        """Forget the block, and those that were opened inside it in the same generator and never closed."""
        refs = OPEN.get(id(self.frame), [])
        for ref in reversed(refs.copy()):
            _forget(id(self.frame), ref)
            if ref() is self:
                return


OPEN: dict[int, list[weakref.ref[GeneratorBlock]]] = {}
"""The open blocks by the identity of their generators' frames, inner ones last. Most processes never have one."""


def _forget(key: int, ref: weakref.ref[GeneratorBlock]) -> None:
    # Without a lock, also in the garbage collector: only the thread that runs the generator changes its list.
    refs = OPEN.get(key)
    if refs is not None and ref in refs:
        refs.remove(ref)
        if not refs:
            OPEN.pop(key, None)


def running() -> GeneratorBlock | None:
    """Return the block of the nearest generator that is running in this thread, if one is."""
    if len(OPEN) <= _FEW and not _one_runs():
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if id(frame) in OPEN and (block := _newest(OPEN.get(id(frame), ()))) is not None and block.frame is frame:
            return block
        frame = frame.f_back
    return None


def _one_runs() -> bool:
    """Whether a generator with an open block runs, in whichever thread: one that waits has no frame below its own."""
    blocks = map(_newest, list(OPEN.values()))
    return any(block is not None and block.frame.f_back is not None for block in blocks)


def _newest(refs: Sequence[weakref.ref[GeneratorBlock]]) -> GeneratorBlock | None:
    return next((block for ref in reversed(refs) if (block := ref()) is not None), None)


def within() -> object | None:
    """Return the token of the block that what is entered here is entered within."""
    block = running() if OPEN else None
    return None if block is None else block.token


def seen_from_here(context: Context) -> Context:
    """Return ``context`` as it is for what happens here: inside the block of a generator that runs, if one does.

    A block that was entered on the way from that generator to here is nearer than the generator's.
    """
    block = running() if OPEN else None
    if block is None or context.get(WITHIN_KEY) is block.token:
        return context
    return block.inside.into(context, block.token)


def block_of(frame: FrameType | None, blocks: Sequence[GeneratorBlock], *, anywhere: bool) -> GeneratorBlock | None:
    """Return which of ``blocks`` is left in ``frame``: the newest of the nearest generator that has one.

    Args:
        frame: where the block is left.
        blocks: those of one ``session(...)``.
        anywhere: whether functions may lie between.
    """
    while frame is not None:
        for block in reversed(blocks):
            if block.frame is frame:
                return block
        if not (anywhere or frame.f_code.co_flags & _GENERATOR or _package(frame) in CONTEXTLIB):
            return None
        frame = frame.f_back
    return None


def generator_of(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the generator to which a block that is entered in ``frame`` belongs; None if to none."""
    while frame is not None:
        if _package(frame) in CONTEXTLIB:
            frame = frame.f_back
            continue
        if not frame.f_code.co_flags & _GENERATOR:
            return None
        driver = _driver_of(frame)
        if driver is None or _package(driver) not in CONTEXTLIB:
            return None if driver is not None and _steps_fixtures(driver) else frame
        frame = driver
    return None


def _driver_of(frame: FrameType) -> FrameType | None:
    """Return who steps a generator, past generators that delegate to it by ``yield from``."""
    driver = frame.f_back
    while driver is not None and driver.f_code.co_flags & CO_GENERATOR and _delegates(driver):
        driver = driver.f_back
    return driver


def _delegates(frame: FrameType) -> bool:
    code, at = frame.f_code.co_code, frame.f_lasti
    while at > 0 and code[at] == 0:  # room that CPython 3.11 and newer have behind an instruction
        at -= 2
    return code[at] in _DELEGATING


def _steps_fixtures(frame: FrameType) -> bool:
    package = _package(frame)
    return package in FIXTURES or (package == "anyio" and frame.f_code.co_name == _ANYIO_FIXTURES)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
