"""What the chunks of streamed chat completions and the events of streamed responses say."""

from __future__ import annotations

from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import Fields, field, fields_of
from otel_llm_sessions.openai.response import TEXTS, Reply, read_choices, read_error, read_output, read_response
from otel_llm_sessions.openai.streamed import Streamed

CHUNK_TEXTS: Final = Fields(*TEXTS)


def see_chat_chunk(reply: Reply, chunk: Any) -> bool:
    """Take in one chunk of a streamed chat completion; return whether it brought what is to be recorded at once."""
    try:
        fields = chunk.__dict__
        id_, choices, usage = fields["id"], fields["choices"], fields["usage"]
        # The common chunk, at the cost of a few look-ups: one choice, which goes on, and nothing else.
        if usage is None and len(choices) == 1 and reply.ids and id_ == reply.ids[-1]:
            choice = choices[0].__dict__
            if choice["finish_reason"] is None and choice["index"] in reply.choices:
                calls = choice["delta"].__dict__["tool_calls"]
                return bool(calls) and streamed(reply).add_calls(chunk, calls)
    except (AttributeError, KeyError, TypeError) as odd:
        pass_on(odd)
        id_, choices, usage = field(chunk, "id"), field(chunk, "choices"), field(chunk, "usage")
    is_new = reply.add_id(id_) and len(reply.ids) == 1
    if usage is not None:
        reply.usage = usage
    reply.attributes.update(reply.texts.of(CHUNK_TEXTS.of(chunk)))
    read_choices(reply, choices)
    read_error(reply, field(chunk, "error"))
    return see_calls(reply, chunk, choices) or is_new


def streamed(reply: Reply) -> Streamed:
    """Return what a stream has brought of items and tool calls."""
    if reply.streamed is None:
        reply.streamed = Streamed()
    return reply.streamed


def see_calls(reply: Reply, chunk: Any, choices: Any) -> bool:
    """Take in the tool calls in a chunk; return whether it brought the first, or says that they are complete."""
    calls: list[Any] = []
    is_complete = False
    for choice in choices if isinstance(choices, (list, tuple)) else ():
        brought = field(field(choice, "delta"), "tool_calls")
        calls += brought if isinstance(brought, (list, tuple)) else ()
        is_complete = is_complete or bool(field(choice, "finish_reason"))
    is_new = bool(calls) and streamed(reply).add_calls(chunk, calls)
    return is_new or (is_complete and reply.streamed is not None)


STATE_EVENTS: Final = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.failed",
        "response.incomplete",
        "response.cancelled",
        "response.done",
    }
)
"""Events of a response stream that carry the response object."""

ITEM_DONE: Final = "response.output_item.done"
ITEM_EVENTS: Final = frozenset({"response.output_item.added", ITEM_DONE})
"""Events that carry one output item, which a stream that is left early says nothing more of."""


def see_response_event(reply: Reply, event: Any) -> bool:
    """Take in one event of a response stream; return whether it brought what is to be recorded at once."""
    try:
        kind = event.__dict__["type"]
    except (AttributeError, KeyError, TypeError) as odd:
        pass_on(odd)
        kind = field(event, "type")
    if type(kind) is str and kind in STATE_EVENTS:
        return read_response(reply, field(event, "response"))
    if type(kind) is str and kind in ITEM_EVENTS:
        return see_item(reply, event, is_done=kind == ITEM_DONE)
    if kind == "error" or type(kind) is not str:
        error = _error_of(event, kind)
        if error:
            read_error(reply, error)
            reply.cut_short()
    return False


def see_item(reply: Reply, event: Any, *, is_done: bool) -> bool:
    """Take in an event that carries one output item; return whether a tool call is complete, which may be run now."""
    item = field(event, "item")
    read_output(reply, (item,))
    said = fields_of(item, ("id", "call_id"))
    call_id = said.get("call_id")
    # What an item says before it is done is not yet what comes back.
    certain = item if is_done else {"id": said.get("id"), "call_id": call_id}
    streamed(reply).add_item(field(event, "output_index"), certain)
    return is_done and call_id is not None


def _error_of(event: Any, kind: Any) -> Any:
    """Return the error that an event of the type ``error``, or of none, stands for; None if it does not."""
    if kind != "error" and field(event, "event") == "error":
        # openai 1.66 hands out what it does not know as the data of another object.
        event, kind = field(event, "data"), "error"
    return field(event, "error") or (event if kind == "error" else None)


SEE_CHUNK: Final = {"chat_completions": see_chat_chunk, "responses": see_response_event}
