"""``otel-llm-sessions list``: sessions, one row each."""

from __future__ import annotations

import argparse

from otel_llm_sessions.view.commands.desk import Desk
from otel_llm_sessions.view.commands.options import described
from otel_llm_sessions.view.commands.reading import chosen
from otel_llm_sessions.view.json_form import summary_json
from otel_llm_sessions.view.terminal.printable import json_text
from otel_llm_sessions.view.terminal.screen import ENDLESS
from otel_llm_sessions.view.terminal.table import table


def run(arguments: argparse.Namespace, desk: Desk) -> int:
    """List the sessions that the options choose; 1 if there are none."""
    sessions = chosen(arguments, desk)
    if arguments.json:
        desk.write(json_text([summary_json(session) for session in sessions], indent=2))
    elif sessions:
        desk.draw(table(sessions, desk.width or ENDLESS))
    if not sessions:
        desk.tell([f"{desk.source.name} has no sessions {described(arguments)}"])
    return 0 if sessions else 1
