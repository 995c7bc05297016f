"""``otel-llm-sessions export``: sessions to standard output, one a line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Final

from otel_llm_sessions.view.commands.desk import Desk
from otel_llm_sessions.view.commands.options import described
from otel_llm_sessions.view.commands.reading import chosen, session_among
from otel_llm_sessions.view.json_form import session_json
from otel_llm_sessions.view.otlp_json import logs_json, spans_json
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.source import Arrived
from otel_llm_sessions.view.terminal.printable import escaped, json_text

Form = Callable[[Arrived, Session, Desk], str]


def run(arguments: argparse.Namespace, desk: Desk) -> int:
    """Write the sessions that are named, or that the options choose; 1 if there are none, or one is not known."""
    ids = arguments.ids or [session.id for session in chosen(arguments, desk)]
    if not ids:
        desk.tell([f"{desk.source.name} has no sessions {described(arguments)}"])
    unknown = [session_id for session_id, line in _lines(ids, arguments.format, desk) if not _written(line, desk)]
    desk.tell(f"{desk.source.name} has no session {session_id}" for session_id in unknown)
    return 0 if ids and not unknown else 1


def _lines(ids: list[str], form: str, desk: Desk) -> Iterator[tuple[str, str | None]]:
    for number, session_id in enumerate(dict.fromkeys(ids), 1):
        with desk.progress(f"reading {desk.source.name}: session {number:,} of {len(ids):,}"):
            arrived = desk.source.session(session_id)
            session = session_among(arrived, session_id) if arrived else None
            line = FORMS[form](arrived, session, desk) if arrived and session else None
        desk.tell(arrived.notices if arrived else ())
        yield session_id, line


def _written(line: str | None, desk: Desk) -> bool:
    if line is not None:
        desk.write(line)
    return line is not None


def _jsonl(_: Arrived, session: Session, desk: Desk) -> str:
    return json_text(session_json(session, desk.source.trace_url))


def _otlp(arrived: Arrived, _: Session, desk: Desk) -> str:
    """Its spans as one line, its events (if there are any) as another: OTLP has no request for both."""
    requests = [spans_json(arrived.spans), *([logs_json(arrived.logs)] if arrived.logs else [])]
    return "\n".join(map(escaped, requests))


FORMS: Final[dict[str, Form]] = {"jsonl": _jsonl, "otlp": _otlp}
