"""What a reply says: ids, model, usage, finish reasons. Survives whatever a server sends, invents nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from otel_llm_sessions.openai.routes import Route
from otel_llm_sessions.telemetry import semconv

INVALID_RESPONSE: Final = "invalid_response"
"""``error.type`` of a reply that is none: HTML, plain text or nothing with status 200."""

REPLY_ATTRIBUTES: Final = (
    ("model", semconv.RESPONSE_MODEL),
    ("service_tier", semconv.OPENAI_RESPONSE_SERVICE_TIER),
    ("system_fingerprint", semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT),
)
"""Fields of a reply that become attributes as they are, if they are strings with something in them."""

INPUT_DETAILS: Final = (
    ("cached_tokens", semconv.USAGE_CACHE_READ_INPUT_TOKENS),
    ("cache_write_tokens", semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
)
OUTPUT_DETAILS: Final = (("reasoning_tokens", semconv.USAGE_REASONING_OUTPUT_TOKENS),)

USAGE_COUNTS: Final = {
    "chat_completions": (
        ("prompt_tokens", semconv.USAGE_INPUT_TOKENS),
        ("completion_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ),
    "responses": (
        ("input_tokens", semconv.USAGE_INPUT_TOKENS),
        ("output_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ),
}
USAGE_DETAILS: Final = {
    "chat_completions": (
        ("prompt_tokens_details", INPUT_DETAILS),
        ("completion_tokens_details", OUTPUT_DETAILS),
    ),
    "responses": (
        ("input_tokens_details", INPUT_DETAILS),
        ("output_tokens_details", OUTPUT_DETAILS),
    ),
}

INCOMPLETE_REASONS: Final = {"max_output_tokens": "length"}
"""``incomplete_details.reason`` by the finish reason that the conventions have for it; others are kept."""

STATUS_REASONS: Final = {"failed": "error", "cancelled": "cancelled", "incomplete": "incomplete"}
TOOL_CALL_ITEMS: Final = ("function_call", "custom_tool_call")  # no set: a server's type may be what has no hash

UNFINISHED: Final = frozenset({"queued", "in_progress"})


MAX_IDS: Final = 16
MAX_CHOICES: Final = 128
"""What is remembered of one reply, however long its stream and however odd its server: OpenAI's ``n`` goes to 128."""


def field(value: Any, name: str) -> Any:
    """Return a field of a reply that may be a model, a dict (old clients) or anything else; None if it has none."""
    if type(value) is dict:
        return value.get(name)
    try:
        return value.__dict__[name]
    except (AttributeError, KeyError, TypeError):
        if isinstance(value, Mapping):
            return value.get(name)
        # Fields that the model does not know are in pydantic's extras, which only attribute access reads.
        return getattr(value, name, None)


def getter_of(value: Any) -> Callable[[str], Any]:
    """Return what gets the fields of a reply by name, as ``field`` does: cheaper for who wants several."""
    if type(value) is dict:
        return value.get
    try:
        return partial(field, value) if value.__pydantic_extra__ else value.__dict__.get
    except AttributeError:
        return partial(field, value)


class Reply:
    """What is known of a reply so far; filled from a whole reply, or chunk by chunk."""

    __slots__ = ("attributes", "choices", "error_type", "goes_on", "ids", "route", "status", "usage")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.attributes: dict[str, Any] = {}
        self.ids: list[str] = []
        """Every id that the reply went by, in order; the last is the one it is known by."""
        self.choices: dict[Any, str | None] = {}
        """Finish reasons by choice; None for one that has not finished."""
        self.usage: Any = None
        self.status: str | None = None
        self.error_type: str | None = None
        self.goes_on = False
        """Whether the server works on in the background when nobody reads the stream any more."""

    def add_id(self, id_: Any) -> bool:
        """Remember an id; return whether it is a new one."""
        if not isinstance(id_, str) or not id_ or (self.ids and self.ids[-1] == id_):
            return False
        if id_ in self.ids:
            self.ids.remove(id_)
        elif len(self.ids) == MAX_IDS:
            del self.ids[1]
        self.ids.append(id_)
        return True

    def add_fields(self, get: Callable[[str], Any]) -> None:
        """Remember model, service tier and fingerprint, if they are there."""
        for name, attribute in REPLY_ATTRIBUTES:
            found = get(name)
            if isinstance(found, str) and found:
                self.attributes[attribute] = found

    def cut_short(self) -> None:
        """Note that the choices that have not finished never will."""
        if self.route.is_turn and not self.goes_on:
            unfinished = [choice for choice, reason in self.choices.items() if reason is None]
            for choice in unfinished or ([] if self.choices else [0]):
                self.choices[choice] = "error"

    def final_attributes(self) -> dict[str, Any]:
        """Return all attributes that the reply gives to the span."""
        attributes = self.attributes
        if self.ids:
            attributes[semconv.RESPONSE_ID] = self.ids[-1]
        reasons = [reason for reason in self.choices.values() if reason is not None]
        if reasons:
            attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
        if self.status is not None and (not self.route.is_turn or self.status != "completed"):
            attributes[semconv.RESPONSE_STATUS] = self.status
        # Fetching a response makes no tokens: they were counted when it was made.
        if self.usage is not None and self.route.is_turn:
            add_usage(attributes, self.usage, self.route.api)
        return attributes

    def token_counts(self) -> tuple[int | None, int | None]:
        """Return the input and output tokens, also where no span of ours asked for the attributes."""
        if self.usage is not None and semconv.USAGE_INPUT_TOKENS not in self.attributes:
            self.final_attributes()
        return self.attributes.get(semconv.USAGE_INPUT_TOKENS), self.attributes.get(semconv.USAGE_OUTPUT_TOKENS)


def add_usage(attributes: dict[str, Any], usage: Any, api: str) -> None:
    """Add token counts as they were sent; what is missing or not a whole number is left out.

    Of the details (cached, reasoning) the conventions ask "when applicable": a zero is left out too.
    """
    get = getter_of(usage)
    for name, attribute in USAGE_COUNTS[api]:
        count = get(name)
        if type(count) is int:
            attributes[attribute] = count
    for name, counts in USAGE_DETAILS[api]:
        details = get(name)
        if details is not None:
            get_detail = getter_of(details)
            for detail, attribute in counts:
                count = get_detail(detail)
                if type(count) is int and count:
                    attributes[attribute] = count


def read_reply(reply: Reply, value: Any) -> None:
    """Read a whole reply: a model, a dict, or whatever a server sent in its place."""
    if isinstance(value, (str, bytes)) or value is None:
        reply.error_type = INVALID_RESPONSE
        return
    get = getter_of(value)
    reply.add_id(get("id"))
    reply.add_fields(get)
    reply.usage = get("usage")
    if reply.route.api == "responses":
        read_response_state(reply, get)
    else:
        read_choices(reply, get("choices"))
        if not reply.choices:
            read_error(reply, get("error"))


def read_choices(reply: Reply, choices: Any) -> None:
    """Read the finish reasons of chat choices, whole or partial."""
    if not isinstance(choices, (list, tuple)):
        return
    for position, choice in enumerate(choices):
        get = getter_of(choice)
        index, reason = get("index"), get("finish_reason")
        key = index if type(index) is int else position
        if key not in reply.choices and len(reply.choices) == MAX_CHOICES:
            continue
        if isinstance(reason, str):
            reply.choices[key] = reason
        else:
            reply.choices.setdefault(key, None)


def read_response_state(reply: Reply, get: Callable[[str], Any]) -> None:
    """Read status, finish reason and error of a response object."""
    status = get("status")
    if isinstance(status, str) and status:
        reply.status = status
    reply.goes_on = reply.status in UNFINISHED and get("background") is True
    reason = finish_reason(reply.status, get)
    if reason is not None:
        reply.choices[0] = reason
    read_error(reply, get("error"))
    if reply.status == "failed" and reply.error_type is None and reply.route.is_turn:
        reply.error_type = "failed"


def finish_reason(status: str | None, get: Callable[[str], Any]) -> str | None:
    """Return why a response ended; None while it has not, or if it says nothing of it."""
    if status == "incomplete":
        reason = field(get("incomplete_details"), "reason")
        return INCOMPLETE_REASONS.get(reason, reason) if isinstance(reason, str) else "incomplete"
    if status in STATUS_REASONS:
        return STATUS_REASONS[status]
    output = get("output")
    if status is None or status in UNFINISHED or not isinstance(output, (list, tuple)):
        return None
    return "tool_calls" if any(field(item, "type") in TOOL_CALL_ITEMS for item in output) else "stop"


def read_error(reply: Reply, error: Any) -> None:
    """Note the error that a reply carries: its code, never its text."""
    if not error or not reply.route.is_turn:
        return
    code = field(error, "code")
    if not isinstance(code, (str, int)) or isinstance(code, bool) or code == "":
        code = field(error, "type")
    reply.error_type = str(code) if isinstance(code, (str, int)) and code != "" else "_OTHER"


def see_chat_chunk(reply: Reply, chunk: Any) -> bool:
    """Take in one chunk of a streamed chat completion; return whether it brought an id not seen before."""
    try:
        fields = chunk.__dict__
        id_, choices, usage = fields["id"], fields["choices"], fields["usage"]
        # The common chunk, at the cost of a few look-ups: one choice, which goes on, and nothing else.
        if usage is None and len(choices) == 1 and reply.ids and id_ == reply.ids[-1]:
            choice = choices[0].__dict__
            if choice["finish_reason"] is None and choice["index"] in reply.choices:
                return False
    except (AttributeError, KeyError, TypeError):
        id_, choices, usage = field(chunk, "id"), field(chunk, "choices"), field(chunk, "usage")
    is_new = reply.add_id(id_)
    if usage is not None:
        reply.usage = usage
    reply.add_fields(getter_of(chunk))
    read_choices(reply, choices)
    read_error(reply, field(chunk, "error"))
    return is_new


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


def see_response_event(reply: Reply, event: Any) -> bool:
    """Take in one event of a response stream; return whether it brought an id not seen before."""
    try:
        kind = event.__dict__["type"]
    except (AttributeError, KeyError, TypeError):
        kind = field(event, "type")
    if type(kind) is str and kind in STATE_EVENTS:
        get = getter_of(field(event, "response"))
        is_new = reply.add_id(get("id"))
        reply.add_fields(get)
        usage = get("usage")
        if usage is not None:
            reply.usage = usage
        read_response_state(reply, get)
        return is_new
    if kind == "error" or type(kind) is not str:
        error = _error_of(event, kind)
        if error:
            read_error(reply, error)
            reply.cut_short()
    return False


def _error_of(event: Any, kind: Any) -> Any:
    """Return the error that an event of the type ``error``, or of none, stands for; None if it does not."""
    if kind != "error" and field(event, "event") == "error":
        # openai 1.66 hands out what it does not know as the data of another object.
        event, kind = field(event, "data"), "error"
    return field(event, "error") or (event if kind == "error" else None)


SEE_CHUNK: Final = {"chat_completions": see_chat_chunk, "responses": see_response_event}
