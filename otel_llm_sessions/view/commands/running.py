"""A command from its options to its exit status, whatever happens on the way."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final

from otel_llm_sessions.view.commands import export, show
from otel_llm_sessions.view.commands import list as list_
from otel_llm_sessions.view.commands.desk import Desk, discard_output
from otel_llm_sessions.view.commands.options import VIEWER, WrongUse, address_said, check, headers_said
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.opening import open_source
from otel_llm_sessions.view.terminal.printable import printable

WRONG_USE: Final = 2
NO_ANSWER: Final = 3
CANNOT_WRITE: Final = 74
"""As sysexits.h has it: the disk is full, for instance."""
INTERRUPTED: Final = 130
NOBODY_READS: Final = 141
"""128 and the number of SIGINT and SIGPIPE, as a shell says it of a program that these end."""

Command = Callable[[argparse.Namespace, Desk], int]

COMMANDS: Final[Mapping[str, Command]] = {"list": list_.run, "show": show.run, "export": export.run}


def run(arguments: argparse.Namespace) -> int:
    """Do what a command line asks for; return its exit status.

    Args:
        arguments: ``command`` and its options.
    """
    try:
        return _run(arguments)
    except WrongUse as error:
        return _failed(arguments, str(error), WRONG_USE)
    except Unreachable as error:
        return _failed(arguments, f"{error}{_hint(arguments)}", NO_ANSWER)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return NOBODY_READS
    except OSError as error:
        discard_output()
        return _failed(arguments, f"cannot write: {error.strerror or error}", CANNOT_WRITE)


def _run(arguments: argparse.Namespace) -> int:
    check(arguments)
    try:
        source = open_source(address_said(arguments), headers_said())
    except ValueError as error:
        raise WrongUse(str(error)) from None
    with closing(source):
        status = COMMANDS[arguments.command](arguments, Desk(source))
        sys.stdout.flush()
        return status


def _failed(arguments: argparse.Namespace, message: str, status: int) -> int:
    print(f"otel-llm-sessions {arguments.command}: {printable(message)}", file=sys.stderr)
    return status


def _hint(arguments: argparse.Namespace) -> str:
    """How to have the viewer answer, where it was asked because nothing else was named."""
    if address_said(arguments) != VIEWER:
        return ""
    return "; start it with `otel-llm-sessions view`, or name another source with --from"
