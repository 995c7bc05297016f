"""What is taken in of a reply that comes piece by piece, and what is recorded of its call meanwhile."""

from __future__ import annotations

import time
from typing import Any

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.chunks import SEE_CHUNK
from otel_llm_sessions.openai.standing import end_root, name
from otel_llm_sessions.telemetry.call_span import SECOND


def see(call: Call, chunk: Any) -> None:
    """Take in one chunk of a stream; with its first id, and with each tool call, the turn is recorded."""
    if call.first_chunk is None:
        call.first_chunk = (time.monotonic_ns() + call.to_epoch - call.started) / SECOND
    reply = call.reply
    is_news = SEE_CHUNK[reply.route.api](reply, chunk)
    if reply.pieces is not None:
        is_news |= reply.completes(chunk)
    if is_news:
        leave_early(call)


def leave_early(call: Call) -> None:
    """Record what the reply has left so far, under the session that it names if it starts one."""
    if named := name(call):
        call.span.set(named)
        end_root(call)
    if call.gate is not None:
        call.gate.tell_leaving()
    call.leave(0)
