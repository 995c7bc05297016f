"""What a command works with: the source that it reads, where its answer goes, and where notices go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.text import Text

from otel_llm_sessions.view.source import Progress, Source
from otel_llm_sessions.view.terminal.printable import printable
from otel_llm_sessions.view.terminal.screen import Screen, screen


class Desk:
    """A command's source, its answer (standard output) and its notices (standard error).

    Args:
        source: where sessions are read.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.answer: Final[Screen] = screen(sys.stdout)
        self._notices: Final[Screen] = screen(sys.stderr)

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None where the answer goes elsewhere."""
        return self.answer.width if self.answer.is_terminal else None

    def draw(self, drawing: object) -> None:
        """Print something of rich's, wrapped by the terminal alone."""
        self.answer.print(drawing, soft_wrap=True)

    def write(self, text: str) -> None:
        """Print a line as it is, at once."""
        self.answer.file.write(f"{text}\n")
        self.answer.file.flush()

    def tell(self, notices: Iterable[str], style: str = "yellow") -> None:
        """Say something beside the answer, a line each."""
        for notice in notices:
            self._notices.print(Text(printable(notice), style), soft_wrap=True)

    @contextmanager
    def progress(self, said: str) -> Iterator[Progress]:
        """Show what is being done, on a terminal, as long as it is; the answer must not be written meanwhile."""
        if not self._notices.is_terminal:
            yield _ignored
            return
        with self._notices.status(Text(said, "dim")) as status:
            yield lambda told: status.update(Text(f"{said}: {printable(told)}", "dim"))


def _ignored(told: str) -> None:
    """Nobody looks."""


def discard_output() -> None:
    """Let what is still to be written to standard output go nowhere: nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
