"""The options of ``otel-llm-sessions view``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Final

from otel_llm_sessions.view.query import UNITS

SIZES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE: Final = re.compile(r"([0-9]{1,15}) ?([KMGT]?B?)", re.IGNORECASE)
AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")
SMALLEST: Final = 1_000_000
KEEP: Final = "7d"
IN_MEMORY, IN_FILE = "256MB", "1GB"

DESCRIPTION: Final = """\
Show the sessions of LLM applications on a page, as they happen.

Receives OTLP where every SDK sends it if nothing is set (gRPC at port 4317,
HTTP at 4318), and shows the sessions on the HTTP port:

  otel-llm-sessions view
  opentelemetry-instrument python app.py

With --from it receives nothing, and shows what Jaeger, Tempo or another viewer has.
"""


def parser() -> argparse.ArgumentParser:
    """Return what reads the options."""
    parser = argparse.ArgumentParser(
        "otel-llm-sessions view", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_ports(parser.add_argument_group("where"))
    _add_keeping(parser.add_argument_group("what is kept, shown and passed on"))
    _add_safety(parser.add_argument_group("who may use it"))
    return parser


def _add_ports(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (default: %(default)s); beyond loopback takes a token",
    )
    add(
        "--http-port",
        type=port,
        default=4318,
        metavar="P",
        help="for the page and OTLP over HTTP (default: %(default)s; 0: any)",
    )
    add("--grpc-port", type=port, default=4317, metavar="P", help="for OTLP over gRPC (default: %(default)s; 0: any)")
    add("--no-open", action="store_true", help="do not open the page in a browser")


def _add_keeping(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--db", metavar="PATH", help="keep what arrives in this file (default: in memory)")
    add("--keep", type=age, default=KEEP, metavar="AGE", help="how long after their last turn (default: %(default)s)")
    add(
        "--max-size",
        type=size,
        metavar="SIZE",
        help=f"the oldest leave first (default: {IN_MEMORY}; with --db {IN_FILE})",
    )
    add("--from", dest="source", metavar="URL", help="show what Jaeger, Tempo or another viewer has")
    add("--forward", metavar="URL", help="pass what arrives on to a collector, as http://collector:4318")
    add(
        "--trace-url",
        default="",
        metavar="TEMPLATE",
        help="where a trace is shown, as http://localhost:16686/trace/{trace_id}",
    )


def _add_safety(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--token", default="", help="what who asks has to know (default: none on loopback, else a random one)")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="H",
        help="a name that it may be called by besides loopback's",
    )
    add("--allow-origin", action="append", default=[], metavar="O", help="another web page that may ask it")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options; ends the process with status 2 and what is wrong if they are none."""
    reads = parser()
    said = reads.parse_args(arguments)
    if said.source and (said.db or said.forward):
        reads.error("--from receives nothing: --db and --forward have no use beside it")
    if said.max_size is None:
        said.max_size = size(IN_FILE if said.db else IN_MEMORY)
    return said


def port(said: str) -> int:
    """Read a port."""
    if not (said.isascii() and said.isdigit() and len(said) <= 5 and int(said) < 65536):
        raise argparse.ArgumentTypeError(f"{said!r} is not valid: expected a whole number from 0 to 65535")
    return int(said)


def age(said: str) -> float:
    """Read how long something is kept, in seconds."""
    found = AGE.fullmatch(said)
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{said!r} is not valid: expected an age as 90s, 15m, 24h, 7d or 2w")
    return float(int(found[1]) * UNITS[found[2]])


def size(said: str) -> int:
    """Read how much may be kept, in bytes."""
    found = SIZE.fullmatch(said)
    unit = found[2].upper() if found else ""
    read = int(found[1]) * SIZES[unit if unit in SIZES else f"{unit}B"] if found else 0
    if read < SMALLEST:
        raise argparse.ArgumentTypeError(f"{said!r} is not valid: expected a size of at least 1MB, as 256MB or 1GB")
    return read
