"""Where drawings go: a terminal with its width and colours, or a file or pipe that gets everything whole and plain."""

from __future__ import annotations

import codecs
import io
import sys
from typing import Final, TextIO

from rich.console import Console

ENDLESS: Final = 1_000_000
"""Columns of what is no terminal: nothing is shortened or wrapped there."""
PLAIN: Final = "otel_llm_sessions.plain"
SIGNS: Final = str.maketrans(
    {"…": "...", "→": "->", "▶": ">", "“": '"', "”": '"', "─": "-", "│": "|", "├": "+", "└": "`"}
)


class Screen(Console):
    """A console of rich's; that nobody reads any more is the command's to know."""

    def on_broken_pipe(self) -> None:
        """Let the exception go on, where rich would end the process."""
        raise


def screen(stream: TextIO | None = None) -> Screen:
    """Return what draws on a stream, by default on standard output.

    There are colours only on a terminal, and none where ``NO_COLOR`` is set. Signs that its encoding lacks are
    written in ASCII.
    """
    stream = stream or sys.stdout
    codecs.register_error(PLAIN, _in_ascii)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=PLAIN)
    is_terminal = stream.isatty()
    return Screen(
        file=stream,
        force_terminal=is_terminal,
        force_jupyter=False,
        width=None if is_terminal else ENDLESS,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end].translate(SIGNS)
    return signs.encode("ascii", "backslashreplace").decode("ascii"), error.end
