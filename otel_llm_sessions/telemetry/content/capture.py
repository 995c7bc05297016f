"""Where contents are recorded, by OpenTelemetry's own variable."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_llm_sessions.guard import say

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Capture(NamedTuple):
    """Where contents are recorded."""

    on_span: bool
    in_event: bool


NO_CONTENT: Final = Capture(False, False)
SPAN_ONLY: Final = Capture(True, False)

MODES: Final = {
    "no_content": NO_CONTENT,
    "span_only": SPAN_ONLY,
    "event_only": Capture(False, True),
    "span_and_event": Capture(True, True),
    "true": SPAN_ONLY,
    "false": NO_CONTENT,
}


def capture_asked(environ: Mapping[str, str] = os.environ) -> Capture:
    """Return where contents are to be recorded; nowhere unless that is asked for.

    Args:
        environ: where the variable is read from. A wrong value is logged.
    """
    asked = environ.get(VARIABLE, "").strip()
    mode = MODES.get(asked.lower()) if asked else NO_CONTENT
    if mode is None:
        allowed = "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, true, false"
        say(
            logging.WARNING,
            "%s=%r is not valid: expected one of %s; the default 'NO_CONTENT' is used",
            VARIABLE,
            asked[:100],
            allowed,
        )
        return NO_CONTENT
    return mode
