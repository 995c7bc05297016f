"""``otel-llm-sessions completion``: what shells complete, made of the parsers themselves.

shtab writes it once, as a script: a shell that completes runs no Python, and the script needs nothing of this package.
"""

from __future__ import annotations

import argparse
from typing import Final

import shtab

OF_FILES: Final = frozenset({"db"})
"""Options whose value is a file."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return what a shell has to read once.

    Args:
        parser: reads the whole command line, with the options of all commands.
        shell: ``bash``, ``zsh`` or ``fish``.
    """
    for each in _parsers(parser):
        for action in each._actions:  # argparse has no other way to its options; shtab takes it too
            if action.dest in OF_FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)  # type: ignore[no-any-return,unused-ignore]


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(each for commands in below for each in commands.values())]
