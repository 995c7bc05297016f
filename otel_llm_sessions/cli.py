"""The ``otel-llm-sessions`` command."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions.view.commands import options

PROGRAM: Final = "otel-llm-sessions"

_OF_A_RESPONSE = re.compile(r"resp_|chatcmpl-|.*~(?:[0-9a-f]{8}|[0-9a-f]{32})\Z")
"""Ids that sessions have which begin without one of their own."""

_MAY_BE_RANDOM = (
    "This looks like the id of a response. A session that begins with one may have a trace with a random id instead: "
    "search your backend for spans with this session.id, and follow a turn's trace or its link to the session."
)


_COMPLETION = """\
Print what a shell reads to complete this command's options.

  bash   otel-llm-sessions completion bash > ~/.local/share/bash-completion/completions/otel-llm-sessions
  zsh    otel-llm-sessions completion zsh > DIRECTORY/_otel-llm-sessions   (one of $fpath)
  fish   otel-llm-sessions completion fish > ~/.config/fish/completions/otel-llm-sessions.fish

For this shell alone: eval "$(otel-llm-sessions completion bash)"
"""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A command that reads its own options.

    Args:
        what: what it does, for help.
        main: imports the command, which takes the rest of the line and returns the exit status.
        parser: imports what reads its options.
    """

    what: str
    main: Callable[[], Callable[[list[str]], int]]
    parser: Callable[[], argparse.ArgumentParser]


def parser(whole: bool = False) -> argparse.ArgumentParser:
    """Return what reads the command line.

    Args:
        whole: with the options of ``view`` and ``demo``, too; else these read the rest of the line themselves.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="See the sessions of LLM applications: in a terminal, on a page, as traces."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options.add_list(commands)
    options.add_show(commands)
    options.add_export(commands)
    for name, command in PASSED_ON.items():
        commands.add_parser(name, help=command.what, parents=[command.parser()] if whole else [], add_help=False)
    _add_trace_id(commands)
    _add_completion(commands)
    return parser


def _add_completion(commands: options.Commands) -> None:
    what = "print what a shell reads to complete this command"
    completion = commands.add_parser(
        "completion", help=what, description=_COMPLETION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


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
        return _passed_on(arguments.command, rest)
    if rest:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.command == "trace-id":
        return _trace_id(arguments.id, arguments.namespace, arguments.part)
    if arguments.command == "completion":
        return _completion(arguments.shell)
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


def _passed_on(name: str, arguments: list[str]) -> int:
    try:
        main = PASSED_ON[name].main()
    except ImportError as error:
        return _lacks(name, error, name)
    return main(arguments)


def _completion(shell: str) -> int:
    try:
        from otel_llm_sessions.view.commands.completion import script

        print(script(parser(whole=True), shell), end="")
    except ImportError as error:
        return _lacks("completion", error, "view")
    return 0


def _lacks(command: str, error: ImportError, extra: str) -> int:
    print(
        f"{PROGRAM} {command} needs more packages ({error.name}): pip install '.[{extra}]' in a checkout",
        file=sys.stderr,
    )
    return 2


def _view_main() -> Callable[[Sequence[str]], int]:
    from otel_llm_sessions.view.server.running import main

    return main


def _view_parser() -> argparse.ArgumentParser:
    from otel_llm_sessions.view.server.options import parser

    return parser()


def _demo_main() -> Callable[[list[str]], int]:
    from otel_llm_sessions.demo.runner import main

    return main


def _demo_parser() -> argparse.ArgumentParser:
    from otel_llm_sessions.demo.options import parser

    return parser()


PASSED_ON: Final = {
    "view": PassedOn("show sessions on a page, and receive them over OTLP", _view_main, _view_parser),
    "demo": PassedOn("run the examples and show the sessions that arrive over OTLP", _demo_main, _demo_parser),
}

if __name__ == "__main__":
    sys.exit(main())
