"""Streams of the client: observed where they are, so that the application gets the very object it would get."""

from __future__ import annotations

from functools import partial
from typing import Any

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.hooks import watch_closing
from otel_llm_sessions.openai.raw import is_read, read_whole
from otel_llm_sessions.openai.watch import AsyncWatched, Watch, note_emptiness, watched


def watch_stream(stream: Any, call: Call) -> None:
    """Observe an ``openai.Stream`` or ``openai.AsyncStream`` from now to its end.

    Both take their chunks from ``_iterator`` (openai 1.66 to 3.57), which is replaced; the stream's class and
    methods stay what they were. Closing goes to the stream of the HTTP response, whichever way the application does
    it. Where the reply has been read already, nothing of it comes from there: it is read at once, and has ended.
    """
    call.runtime.costs.see_headers(call.reply, stream.response, is_stream=True)
    if is_read(stream.response):
        return read_whole(stream.response, call)
    watch = Watch(call, complete=partial(note_emptiness, call))
    watch_closing(stream.response, watch)
    if hasattr(stream._iterator, "__anext__"):
        stream._iterator = AsyncWatched(stream._iterator, watch)
    else:
        stream._iterator = watched(stream._iterator, watch)
    return None
