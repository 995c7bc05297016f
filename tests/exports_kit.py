"""Recorded exports: what real applications sent over OTLP, and which sessions are in it.

``tests/data/exports/NAME.jsonl`` holds one export request a line, as OTLP/JSON has it (ids in hex): ``{"traces": …}``
or ``{"logs": …}``. ``NAME.sessions.json`` says which sessions these are, by the books of the application that made the
calls (``record_exports.py`` plays them anew). To use one::

    export = load("chain", now=time.time_ns(), fresh="run1")   # ended just now, with ids that no other run has
    for message in export.traces:                              # bytes of ExportTraceServiceRequest: POST /v1/traces
        httpx.post(f"{jaeger}/v1/traces", content=message, headers={"content-type": "application/x-protobuf"})
    assert differences(export.sessions, sessions_of(spans_from_there)) == []

``load_all()`` loads all of them. ``export.spans`` and ``export.logs`` are the same as values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_reading import read_logs, read_spans

from otel_llm_sessions.view.sessions import Session, sessions_of
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

FOLDER = Path(__file__).parent / "data" / "exports"
MESSAGES = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
IDS = re.compile(r'("(?:traceId|spanId|parentSpanId)": ?")([^"]*)"')
TIMES = re.compile(r'("\w*[tT]imeUnixNano": ?")(\d+)"')
LATEST = re.compile(r'"endTimeUnixNano": ?"(\d+)"')
TOLD = ("turn", "part", "response_id", "model", "source", "input_tokens", "output_tokens", "cost", "error")
"""What the books of a turn may say; what they do not say is not compared."""


@dataclass(frozen=True)
class Export:
    """What an application sent, and which sessions are in it."""

    name: str
    traces: list[bytes]
    """Serialized ``ExportTraceServiceRequest``s, in the order in which they were sent."""
    logs_sent: list[bytes]
    """Serialized ``ExportLogsServiceRequest``s."""
    sessions: list[dict[str, Any]]
    """The sessions by the application's books: ``id``, ``turns`` (see ``TOLD``), and what else is to be compared."""

    @property
    def spans(self) -> list[ReceivedSpan]:
        return [span for message in self.traces for span in read_spans(message)]

    @property
    def logs(self) -> list[ReceivedLog]:
        return [log for message in self.logs_sent for log in read_logs(message)]


def names() -> list[str]:
    """The names of all recorded exports."""
    return sorted(file.stem for file in FOLDER.glob("*.jsonl"))


def load_all(now: int | None = None, fresh: str = "") -> list[Export]:
    """Load all recorded exports (see ``load``)."""
    return [load(name, now, fresh) for name in names()]


def load(name: str, now: int | None = None, fresh: str = "") -> Export:
    """Load a recorded export.

    Args:
        name: which one.
        now: when its last span ended, in nanoseconds since the epoch; as recorded where it is None.
        fresh: a word that makes other ids of all trace, span, session and response ids; as recorded where it is empty.
    """
    text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    books = (FOLDER / f"{name}.sessions.json").read_text(encoding="utf-8")
    if now is not None:
        shift = now - max(map(int, LATEST.findall(text)))
        text = TIMES.sub(lambda found: f'{found[1]}{max(0, int(found[2]) + shift)}"', text)
    if fresh:
        renewed = _renewal(json.loads(books), fresh)
        text = IDS.sub(lambda found: f'{found[1]}{_other(found[2], fresh)}"', renewed(text))
        books = renewed(books)
    lines = [json.loads(line) for line in text.splitlines()]
    sent = {kind: [_bytes(kind, line[kind]) for line in lines if kind in line] for kind in MESSAGES}
    return Export(name, sent["traces"], sent["logs"], json.loads(books))


def line_of(kind: str, message: bytes) -> str:
    """One export request as a line of a file."""
    return json.dumps({kind: _hex(MessageToDict(MESSAGES[kind].FromString(message)))}, separators=(",", ":"))


def differences(expected: Iterable[dict[str, Any]], found: Iterable[Session]) -> list[str]:
    """What is not as the books say; empty if all is."""
    sessions, wrong = {session.id: session for session in found}, []
    books = {book["id"]: book for book in expected}
    wrong += [f"{id_} did not arrive" for id_ in books.keys() - sessions.keys()]
    wrong += [f"{id_} is in no book" for id_ in sessions.keys() - books.keys()]
    for id_ in sorted(books.keys() & sessions.keys()):
        wrong += [f"{id_}: {each}" for each in _differences(books[id_], sessions[id_])]
    return wrong


def misread(exports: Iterable[Export], source: Any, lacking: dict[str, str]) -> list[tuple[str, str]]:
    """What a source tells wrongly of recorded sessions, each read alone.

    Args:
        exports: what the source has.
        source: asked for one session after the other.
        lacking: for exports of which something cannot be read from there, a word of each difference.
    """
    wrong: list[tuple[str, str]] = []
    for export in exports:
        for book in export.sessions:
            arrived = source.session(book["id"])
            found = [one for one in sessions_of(arrived.spans) if one.id == book["id"]] if arrived else []
            wrong += [(export.name, each) for each in differences([book], found)]
    assert {name for name, _ in wrong} == lacking.keys()
    return [(name, each) for name, each in wrong if lacking.get(name, "-") not in each]


def _differences(book: dict[str, Any], session: Session) -> Iterator[str]:
    told = [[turn.get(name, "?") for name in TOLD] for turn in book["turns"]]
    said = [[_said(getattr(turn, "number" if name == "turn" else name)) for name in TOLD] for turn in session.turns]
    said = [
        ["?" if known == "?" else one for known, one in zip(line, row, strict=True)]
        for line, row in zip(told, said, strict=False)
    ] + said[len(told) :]
    if told != said:
        yield f"turns {said}, expected {told}"
    for name, value in book.items():
        if name not in ("id", "turns") and (is_ := FACTS[name](session)) != value:
            yield f"{name} {is_!r}, expected {value!r}"


def _said(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


FACTS = {
    "name": lambda session: session.name,
    "user": lambda session: session.user,
    "tags": lambda session: list(session.tags),
    "services": lambda session: list(session.services),
    "parts": lambda session: [part.number for part in session.parts],
    "input_tokens": lambda session: session.input_tokens,
    "output_tokens": lambda session: session.output_tokens,
    "cost": lambda session: _said(session.summary().cost),
    "requests": lambda session: [turn.request.name if turn.request else None for turn in session.turns],
    "markers": lambda session: [turn.is_marker for turn in session.turns],
    "follows": lambda session: [turn.follows.response_id if turn.follows else None for turn in session.turns],
    "words": lambda session: [[_texts(turn.input), _texts(turn.output)] for turn in session.turns],
    "evaluations": lambda session: [
        [one.name, one.score, one.label, one.turn.response_id if one.turn else None] for one in session.evaluations
    ],
    "response_ids": lambda session: sorted(turn.response_id for turn in session.turns),
    "parents": lambda session: list(session.parents),
    "children": lambda session: list(session.children),
    "aliases": lambda session: list(session.aliases),
}
"""What else the books of a session may say."""


def _texts(messages: Iterable[Any]) -> list[list[str]]:
    return [[message.role, *(part.text for part in message.parts)] for message in messages]


def _renewal(books: list[dict[str, Any]], fresh: str) -> Any:
    """What puts another id in the place of each session's and response's."""
    ids = {one["id"] for one in books} | {one for book in books for one in book.get("aliases", ())}
    ids |= {turn["response_id"] for book in books for turn in book["turns"] if turn.get("response_id")}
    written = {json.dumps(one)[1:-1] for one in ids} | {json.dumps(one, ensure_ascii=False)[1:-1] for one in ids}
    if not written:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda found: f"{found[0]}-{fresh}", text)


def _other(id_: str, fresh: str) -> str:
    return hashlib.sha256(f"{fresh} {id_}".encode()).hexdigest()[: len(id_)]


def _bytes(kind: str, request: dict[str, Any]) -> bytes:
    return ParseDict(_base64(request), MESSAGES[kind]()).SerializeToString()


def _hex(value: Any) -> Any:
    return _mapped(value, lambda text: base64.b64decode(text).hex())


def _base64(value: Any) -> Any:
    return _mapped(value, lambda text: base64.b64encode(bytes.fromhex(text)).decode())


def _mapped(value: Any, change: Any) -> Any:
    """JSON with its ids changed: protobuf's writes them in base64, OTLP's in hex."""
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    if isinstance(value, dict):
        return {
            name: change(each) if name in ("traceId", "spanId", "parentSpanId") else _mapped(each, change)
            for name, each in value.items()
        }
    return value


def now() -> int:
    """The present, in nanoseconds since the epoch."""
    return time.time_ns()
