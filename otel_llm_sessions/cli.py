"""The ``otel-llm-sessions`` command."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

_OF_A_RESPONSE = re.compile(r"resp_|chatcmpl-|.*~(?:[0-9a-f]{8}|[0-9a-f]{32})\Z")
"""Ids that sessions have which begin without one of their own."""

_MAY_BE_RANDOM = (
    "This looks like the id of a response. A session that begins with one may have a trace with a random id instead: "
    "search your backend for spans with this session.id, and follow a turn's trace or its link to the session."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-llm-sessions", description="See the sessions of LLM applications as traces."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="run the examples and show the sessions that arrive over OTLP", add_help=False)
    trace_id = commands.add_parser("trace-id", help="print the trace id of a session")
    trace_id.add_argument("id", type=_session_id, metavar="ID", help="the session's id")
    trace_id.add_argument(
        "--namespace",
        metavar="N",
        help="the setting NAMESPACE (default: as the environment says)",
    )
    trace_id.add_argument("--part", type=_part, default=1, metavar="P", help="which part of a long session (1, 2, …)")
    return parser


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
    arguments, rest = _parser().parse_known_args(argv)
    if arguments.command == "demo":
        return _demo(rest)
    if rest:
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    return _trace_id(arguments.id, arguments.namespace, arguments.part)


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


def _demo(arguments: list[str]) -> int:
    try:
        from otel_llm_sessions.demo.runner import main as demo
    except ImportError as error:
        print(f"The demo needs more packages ({error.name}): pip install '.[demo]' in a checkout", file=sys.stderr)
        return 2
    return demo(arguments)


if __name__ == "__main__":
    sys.exit(main())
