"""The options of ``list``, ``show`` and ``export``, and what they say: a query, an address, headers."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import unquote

from otel_llm_sessions.view.query import TIMES, Query, Sort, query_of

if TYPE_CHECKING:
    # What subparsers are is a name of argparse's own; it can only be written where nothing runs.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FROM: Final = "OTEL_LLM_SESSIONS_FROM"
FROM_HEADERS: Final = "OTEL_LLM_SESSIONS_FROM_HEADERS"
VIEWER: Final = "http://localhost:4318"
SINCE: Final = "24h"
LIMIT: Final = 50
MOST_AT_ALL: Final = 10**9
FILTERS: Final = ("since", "until", "service", "user", "model", "name", "errors", "min_turns")
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

SOURCES: Final = f"""\
Sessions are read from the address that --from or {FROM} says:
the viewer (`otel-llm-sessions view`, {VIEWER}, the default),
Jaeger (http://localhost:16686) or Tempo (http://localhost:3200). Which of them
answers there is asked; jaeger+http://... and tempo+http://... say it.
{FROM_HEADERS} has headers to send, percent-encoded:
"Authorization=Bearer%20abc,X-Scope-OrgID=1".
"""
EXITS: Final = "Exit status: 0, 1 nothing found, 2 wrong use, 3 the backend does not answer."


class WrongUse(Exception):
    """A command line that cannot be meant; the message says why."""


def add_list(commands: Commands) -> None:
    """Add the command ``list``."""
    parser = _command(commands, "list", "list sessions, one row each")
    _add_source(parser)
    _add_filters(parser, SINCE)
    _add_order(parser, LIMIT)
    parser.add_argument("--json", action="store_true", help="one JSON array")


def add_show(commands: Commands) -> None:
    """Add the command ``show``."""
    parser = _command(commands, "show", "show a session's turns as a tree, and where its traces are")
    parser.add_argument("id", metavar="ID", help="the session's id")
    _add_source(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object, words and all")
    form.add_argument("--content", action="store_true", help="below each turn what was said, where it is recorded")


def add_export(commands: Commands) -> None:
    """Add the command ``export``."""
    parser = _command(commands, "export", "write sessions to standard output, one a line")
    parser.add_argument(
        "ids", metavar="ID", nargs="*", help="the sessions' ids; without any, those that options choose"
    )
    _add_source(parser)
    _add_filters(parser, None)
    _add_order(parser, None)
    parser.add_argument(
        "--format",
        choices=("jsonl", "otlp"),
        default="jsonl",
        help="jsonl: a session as the viewer's API has it; otlp: its spans as an export request (default: %(default)s)",
    )


def query_said(arguments: argparse.Namespace) -> Query:
    """Return the query that a command line's options are.

    Raises:
        WrongUse: a value is not valid; the message names it and what is allowed.
    """
    said = {name: getattr(arguments, name) or "" for name in (*FILTERS, "sort")}
    said["errors"] = "true" if arguments.errors else ""
    try:
        return query_of({**said, "since": said["since"] or SINCE, "text": arguments.text or ""})
    except ValueError as error:
        raise WrongUse(str(error)) from None


def described(arguments: argparse.Namespace) -> str:
    """Which sessions the options choose, as they were said: ``since 24h, user u-1``."""
    said = {name: getattr(arguments, name) for name in (*FILTERS, "text")}
    said["since"] = said["since"] or SINCE
    told = (name.replace("_", " ") + ("" if value is True else f" {value}") for name, value in said.items() if value)
    return f"({', '.join(told)})"


def check(arguments: argparse.Namespace) -> None:
    """Raise WrongUse for a command line that cannot be meant, before anything is asked for."""
    if arguments.command in ("list", "export"):
        query_said(arguments)
    if arguments.command == "export":
        by_options = any(getattr(arguments, name) for name in (*FILTERS, "text"))
        if by_options == bool(arguments.ids):
            raise WrongUse("expected either the ids of sessions, or options that choose some, as --since 24h")


def address_said(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """Return where sessions are read from, as the option, else the environment says; else the viewer's address."""
    return arguments.source or environ.get(FROM, "").strip() or VIEWER


def headers_said(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the headers that the environment says to send: ``name=value`` with commas between, percent-encoded.

    Raises:
        ValueError: it is something else; the message holds none of it, since that may be a credential.
    """
    headers = {}
    for at, pair in enumerate(filter(str.strip, environ.get(FROM_HEADERS, "").split(",")), 1):
        name, equals, value = (part.strip() for part in pair.partition("="))
        value = unquote(value)
        if not (equals and HEADER_NAME.fullmatch(name) and value.isprintable() and value.isascii()):
            raise ValueError(f"{FROM_HEADERS} is not valid: number {at} is no name=value, percent-encoded")
        headers[name] = value
    return headers


def _command(commands: Commands, name: str, what: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.\n\n{SOURCES}",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", metavar="URL", help=f"where to read from (default: {FROM}, {VIEWER})")


def _add_filters(parser: argparse.ArgumentParser, since: str | None) -> None:
    which = parser.add_argument_group("which sessions")
    which.add_argument(
        "--since", metavar="T", default=since, help=f"that had a turn since then: {TIMES} (default: {SINCE})"
    )
    which.add_argument("--until", metavar="T", help="that had begun by then")
    which.add_argument("--service", metavar="S", help="with a turn from this service")
    which.add_argument("--user", metavar="U", help="of this user")
    which.add_argument("--model", metavar="M", help="in which this model answered (or one whose name begins so)")
    which.add_argument("--name", metavar="N", help="whose name has this in it")
    which.add_argument("--text", metavar="T", help="with this in id, name, user, tags, services or models, or in words")
    which.add_argument("--errors", action="store_true", help="in which a turn failed")
    which.add_argument("--min-turns", metavar="N", help="of at least so many turns")


def _add_order(parser: argparse.ArgumentParser, limit: int | None) -> None:
    parser.add_argument(
        "--sort", choices=get_args(Sort), default="last", help="the greatest first, by this (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", metavar="N", type=_limit, default=limit, help=f"at most so many (default: {limit or 'all'})"
    )


def _limit(said: str) -> int:
    if said.isascii() and said.isdigit() and len(said) <= 10 and 1 <= int(said) <= MOST_AT_ALL:
        return int(said)
    raise argparse.ArgumentTypeError(f"{said!r} is not valid: expected a whole number from 1 to {MOST_AT_ALL}")
