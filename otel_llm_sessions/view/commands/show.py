"""``otel-llm-sessions show``: a session's turns as a tree, with what was said, and where its traces are."""

from __future__ import annotations

import argparse
from typing import Final, Protocol, runtime_checkable

from rich.text import Text

from otel_llm_sessions.view.commands.desk import Desk
from otel_llm_sessions.view.commands.reading import session_among
from otel_llm_sessions.view.json_form import session_json
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.terminal.printable import json_text, printable
from otel_llm_sessions.view.terminal.tree import Look, traces_of, tree

NO_WORDS: Final = (
    "nothing of what was said is recorded: applications that run with "
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY record it"
)


@runtime_checkable
class HasPages(Protocol):
    """A source that shows sessions on a page of its own."""

    def page_url(self, session_id: str) -> str:
        """Return the address of a session's page."""
        ...


def run(arguments: argparse.Namespace, desk: Desk) -> int:
    """Show one session; 1 if it is not known."""
    with desk.progress(f"reading {desk.source.name}"):
        arrived = desk.source.session(arguments.id)
        session = session_among(arrived, arguments.id) if arrived else None
    desk.tell(arrived.notices if arrived else ())
    if session is None:
        desk.tell([f"{desk.source.name} has no session {arguments.id}"])
        return 1
    if arguments.json:
        desk.write(json_text(session_json(session, desk.source.trace_url), indent=2))
        return 0
    _draw(session, arguments.content, desk)
    return 0


def _draw(session: Session, with_content: bool, desk: Desk) -> None:
    desk.answer.print(tree(session, Look(desk.width, with_content)))
    addresses = list(_addresses(session, desk))
    if addresses:
        width = max(len(what) for what, _ in addresses)
        lines = [Text.assemble((what.ljust(width), "dim"), "  ", (url, "blue")) for what, url in addresses]
        desk.draw(Text("\n").join([Text(""), *lines]))
    if with_content and not any(turn.input or turn.output for turn in session.turns):
        desk.tell([NO_WORDS])


def _addresses(session: Session, desk: Desk) -> list[tuple[str, str]]:
    """What can be opened in a browser, and where: the session's page, and each of its traces."""
    pages = [("page", desk.source.page_url(session.id))] if isinstance(desk.source, HasPages) else []
    traces = [(what, desk.source.trace_url(trace_id)) for trace_id, what in traces_of(session)]
    return [*pages, *((what, printable(url)) for what, url in traces if url)]
