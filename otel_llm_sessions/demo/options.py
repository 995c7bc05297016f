"""The options of ``otel-llm-sessions demo``."""

from __future__ import annotations

import argparse


def parser() -> argparse.ArgumentParser:
    """Return what reads the options."""
    parser = argparse.ArgumentParser(
        prog="otel-llm-sessions demo", description="Run the examples and show the sessions that arrive over OTLP."
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds that one example may take (default: %(default)g)"
    )
    parser.add_argument(
        "--view",
        action=argparse.BooleanOptionalAction,
        help="keep the page with the sessions there until Ctrl-C (default: on a terminal)",
    )
    return parser
