"""Plays thirty applications against the loopback server and records what they export, beside their own books.

    .venv/bin/python tests/record_exports.py             # all of them, into tests/data/exports
    .venv/bin/python tests/record_exports.py chain fork  # only these

The books say what the application knows itself: whose reply was which, with how many tokens, in which conversation.
Look at what has changed in them before you commit a new recording: nobody else checks that they are right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from export_scenes import SCENES, Stage
from exports_kit import FOLDER, line_of
from loopback import LoopbackServer
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

BATCH = 5
"""Spans of one export request."""


def main(chosen: list[str]) -> None:
    """Record the chosen scenes, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with LoopbackServer() as server:
        # In this order: what other instrumentations leave behind comes last.
        for name in (name for name in SCENES if not chosen or name in chosen):
            stage = Stage(name, server)
            books = SCENES[name](stage)
            lines = list(requests_of(stage))
            (FOLDER / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            written = json.dumps(books, indent=1, ensure_ascii=False)
            (FOLDER / f"{name}.sessions.json").write_text(f"{written}\n", encoding="utf-8")
            print(f"{name}: {len(stage.spans)} spans, {len(books)} sessions")


def requests_of(stage: Stage) -> Iterator[str]:
    """The export requests, as lines of the file."""
    spans = list(stage.spans)
    for at in range(0, len(spans), BATCH):
        yield line_of("traces", encode_spans(spans[at : at + BATCH]).SerializeToString())
    if logs := stage.logs:
        yield line_of("logs", encode_logs(logs).SerializeToString())


if __name__ == "__main__":
    main(sys.argv[1:])
