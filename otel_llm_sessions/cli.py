"""The ``otel-llm-sessions`` command."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Final

from otel_llm_sessions.view.commands import options

PROGRAM: Final = "otel-llm-sessions"

_OF_A_RESPONSE = re.compile(r"resp_|chatcmpl-|.*~(?:[0-9a-f]{8}|[0-9a-f]{32})\Z")
"""Ids that sessions have which begin without one of their own."""

_MAY_BE_RANDOM = (
    "This looks like the id of a response. A session that begins with one may have a trace with a random id instead: "
    "search your backend for spans with this session.id, and follow a turn's trace or its link to the session."
)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line; of ``demo`` only the name, since it reads the rest itself."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="See the sessions of LLM applications: in a terminal, on a page, as traces."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options.add_list(commands)
    options.add_show(commands)
    options.add_export(commands)
    commands.add_parser("demo", help="run the examples and show the sessions that arrive over OTLP", add_help=False)
    _add_trace_id(commands)
    return parser


def _add_trace_id(commands: options.Commands) -> None:
    trace_id = commands.add_parser("trace-id", help="print the trace id of a session")
    trace_id.add_argument("id", type=_session_id, metavar="ID", help="the session's id")
    trace_id.add_argument(
        "--namespace",
        metavar="N",
        help="the setting NAMESPACE (default: as the environment says)",
    )
    trace_id.add_argument("--part", type=_part, default=1, metavar="P", help="which part of a long session (1, 2, …)")


def _session_id(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise argparse.ArgumentTypeError(f"{value!r} is not valid: expected a printable string with something in it")
    return value


def _part(value: str) -> int:
    # More digits than any session has parts; int() refuses some of what isdigit() takes, and very long numbers.
    if not (value.isascii() and value.isdigit() and len(value) <= 18) or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not valid: expected a whole number greater than 0")
    return int(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status.

    Args:
        argv: the arguments, without the program's name; those of the process by default.
    """
    arguments, rest = parser().parse_known_args(argv)
    if arguments.command in PASSED_ON:
        return PASSED_ON[arguments.command](rest)
    if rest:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.command == "trace-id":
        return _trace_id(arguments.id, arguments.namespace, arguments.part)
    return _sessions(arguments)


def _trace_id(session_id: str, namespace: str | None, part: int) -> int:
    from otel_llm_sessions.session import session_trace_id
    from otel_llm_sessions.settings import settings_from

    settings = settings_from()
    if namespace is None:
        namespace = settings.namespace if settings.namespace is not None else _namespace_of_resource()
    print(session_trace_id(session_id, namespace=namespace, part=part, key=settings.key))
    if _OF_A_RESPONSE.match(session_id):
        print(_MAY_BE_RANDOM, file=sys.stderr)
    return 0


def _namespace_of_resource() -> str:
    """Return ``service.namespace`` as the SDK reads it from the environment, by whichever detectors that names."""
    from opentelemetry.sdk.resources import Resource

    return str(Resource.create().attributes.get("service.namespace", ""))


def _sessions(arguments: argparse.Namespace) -> int:
    try:
        from otel_llm_sessions.view.commands.running import run
    except ImportError as error:
        return _lacks(arguments.command, error, "view")
    return run(arguments)


def _demo(arguments: list[str]) -> int:
    try:
        from otel_llm_sessions.demo.runner import main as demo
    except ImportError as error:
        return _lacks("demo", error, "demo")
    return demo(arguments)


def _lacks(command: str, error: ImportError, extra: str) -> int:
    print(
        f"{PROGRAM} {command} needs more packages ({error.name}): pip install '.[{extra}]' in a checkout",
        file=sys.stderr,
    )
    return 2


PASSED_ON: Final[dict[str, Callable[[list[str]], int]]] = {"demo": _demo}
"""Commands that read their own options."""

if __name__ == "__main__":
    sys.exit(main())
