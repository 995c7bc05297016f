"""What a reply says: ids, model, usage, finish reasons. Survives whatever a server sends, invents nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from otel_llm_sessions import semconv
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import Fields, conversation_id_in, field, items_of
from otel_llm_sessions.openai.parameters import COMPACTION
from otel_llm_sessions.openai.pieces import Pieces
from otel_llm_sessions.openai.response_fields import LEFT_BY_THESE, said_by
from otel_llm_sessions.openai.routes import RESPONSES, Route
from otel_llm_sessions.openai.streamed import Streamed
from otel_llm_sessions.openai.usage import NO_TOKENS, Tokens, add_usage
from otel_llm_sessions.openai.words.events import Events
from otel_llm_sessions.sessions.link import Told
from otel_llm_sessions.sessions.names import id_of
from otel_llm_sessions.telemetry.values import OTHER, error_code_of, text_of

INVALID_RESPONSE: Final = "invalid_response"
"""``error.type`` of a reply that is none: HTML, plain text or nothing with status 200."""

TEXTS: Final = ("model", "service_tier", "system_fingerprint")
MAX_TEXTS: Final = 512
"""Characters of what is kept of one reply's texts."""


class Texts:
    """What becomes of the fields of a reply that are attributes as they are, if they are texts with something in them.

    Kept by what replies said, since most of a server's say the same.
    """

    def __init__(self, *names: str) -> None:
        """Args: the attributes that the first of ``TEXTS`` become."""
        self._names = names
        self.known: Bounded[tuple[Any, ...], dict[str, Any]] = Bounded(256, weigh=_weight_of, heaviest=MAX_TEXTS - 1)
        self._known_by = self.known.get

    def of(self, texts: tuple[Any, ...]) -> dict[str, Any]:
        """Return the attributes that the ``TEXTS`` of a reply become, to be copied; what is no text becomes none."""
        try:
            known = self._known_by(texts)
            if known is None:
                self.known[texts] = known = self._cleaned(texts)
        except TypeError as error:  # a server's list or dict, which no table takes
            pass_on(error)
            known = self._cleaned(texts)
        return known

    def _cleaned(self, texts: tuple[Any, ...]) -> dict[str, Any]:
        cleaned = zip(self._names, map(text_of, texts), strict=False)
        return {name: text for name, text in cleaned if text is not None}


def _weight_of(texts: tuple[Any, ...], _: object) -> int:
    # What is neither a text nor missing may be anything, and is not kept.
    return sum(len(text) if type(text) is str else MAX_TEXTS for text in texts if text is not None)


ANY_TEXTS: Final = Texts(semconv.RESPONSE_MODEL)
OPENAI_TEXTS: Final = Texts(
    semconv.RESPONSE_MODEL, semconv.OPENAI_RESPONSE_SERVICE_TIER, semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT
)

CHAT_COMPLETION: Final = Fields("id", "choices", "usage", *TEXTS)
CHOICE: Final = Fields("index", "finish_reason")

FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""OpenAI's own, which are attributes as they are."""

INCOMPLETE_REASONS: Final = {"max_output_tokens": "length"}
"""``incomplete_details.reason`` by the finish reason that the conventions have for it; others are kept."""

STATUS_REASONS: Final = {"failed": "error", "cancelled": "cancelled", "incomplete": "incomplete"}
TOOL_CALL_ITEMS: Final = ("function_call", "custom_tool_call")  # no set: a server's type may be what has no hash

UNFINISHED: Final = frozenset({"queued", "in_progress"})


MAX_IDS: Final = 16
MAX_CHOICES: Final = 128
"""What is remembered of one reply, however long its stream and however odd its server: OpenAI's ``n`` goes to 128."""


class Leaves(Protocol):
    """A row of ``evidence.LEFT``, as far as replies are concerned."""

    @property
    def field(self) -> str:
        """Which field of a reply is evidence."""
        ...


class Reply:
    """What is known of a reply so far; filled from a whole reply, or chunk by chunk."""

    __slots__ = (
        "_leaves",
        "attributes",
        "choices",
        "conversation",
        "cost",
        "error",
        "error_type",
        "fetched",
        "goes_on",
        "ids",
        "kept",
        "pieces",
        "route",
        "status",
        "streamed",
        "texts",
        "tokens",
        "told",
        "usage",
    )
    usage: Any
    tokens: Tokens
    """How many ``usage`` says, once that has been asked for."""
    fetched: Any
    """A response that was made before, as it came; None of what is made now."""

    def __init__(
        self,
        route: Route,
        is_openai: bool = True,
        leaves: Sequence[Leaves] = (),
        has_words: bool = False,
        is_recorded: bool = False,
    ) -> None:
        """Begin with nothing.

        Args:
            route: what was asked.
            is_openai: whether the reply's own ``openai.*`` attributes are recorded.
            leaves: which of its fields are evidence (rows of ``evidence.LEFT``).
            has_words: whether what it says is evidence.
            is_recorded: whether what it says is recorded: all of it, for ``words.replied``.
        """
        self.route = route
        self.texts = OPENAI_TEXTS if is_openai else ANY_TEXTS
        """What becomes of model, service tier and fingerprint."""
        self.attributes: dict[str, Any] = {}
        self.ids: list[str] = []
        """Every id that the reply went by, in order; the last is the one it is known by."""
        self.choices: dict[Any, str | None] = {}
        """Finish reasons by choice; None for one that has not finished."""
        self.kept: dict[str, Any] = {}
        """What the reply has said in the fields that are evidence."""
        self._leaves = leaves
        self.streamed: Streamed | None = None
        """What a stream has brought of items and tool calls; None while that is nothing."""
        self.pieces: Pieces | Events | None = None
        """What a stream has said; None where that is neither evidence nor recorded."""
        if has_words:
            self.pieces = Pieces()
        if is_recorded:
            self.record_words()
        self.usage, self.tokens, self.fetched = None, NO_TOKENS, None
        self.cost: float | None = None
        """What its headers say that it cost, in US dollars."""
        self.conversation: str | None = None
        """The id of the conversation that a response says it belongs to."""
        self.status: str | None = None
        self.error: Any = None
        """The error that the reply carries, as it came."""
        self.error_type: str | None = None
        self.goes_on = False
        """Whether the server works on in the background when nobody reads the stream any more."""
        self.told: Told | None = None
        """What the turn has recorded of what was said; None while that is nothing."""

    def record_words(self) -> None:
        """Keep all that the reply says, for ``words.replied``; before anything of it has come."""
        if self.route.api == "responses":
            self.pieces = Events()
        else:
            self.pieces = Pieces(is_whole=True, is_evidence=self.pieces is not None)

    def add_id(self, id_: Any) -> bool:
        """Remember an id; return whether it is a new one."""
        ids = self.ids
        if ids and ids[-1] == id_:
            return False
        id_ = id_of(id_)
        if id_ is None:
            return False
        if ids:
            if id_ in ids:
                ids.remove(id_)
            elif len(ids) == MAX_IDS:
                del ids[1]
        ids.append(id_)
        return True

    def said(self, name: str) -> Sequence[Any]:
        """Return what the reply has said in a field: all its ids, or what it and its stream have brought of another."""
        if name == "id":
            return self.ids
        kept = self.kept.get(name)
        said = () if kept is None else (kept,)
        return said if self.streamed is None else (*said, *self.streamed.said(name, self.choices))

    def messages(self) -> list[Any]:
        """Return the messages of a chat reply, as far as they have come."""
        streamed = self.pieces.messages() if isinstance(self.pieces, Pieces) else []
        whole = (field(choice, "message") for said in self.said("choices") for choice in items_of(said))
        return streamed or [message for message in whole if message is not None]

    @property
    def is_complete(self) -> bool:
        """Whether all choices so far have come to their end."""
        return bool(self.choices) and None not in self.choices.values()

    def completes(self, chunk: Any) -> bool:
        """Take in what a chunk says, where that is wanted; return whether it brings evidence of choices to its end."""
        pieces = self.pieces
        return pieces is not None and pieces.add(chunk) and self.is_complete

    def keep(self, value: Any, first: int = 0) -> None:
        """Remember what a reply says in the fields that are evidence, but for the first ones, which have been read."""
        for left in self._leaves[first:]:
            name = left.field
            if name == "choices":
                read_choices(self, field(value, name))
            elif name != "id" and (found := field(value, name)) is not None:
                self.kept[name] = found

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
        if self.conversation is not None:
            attributes[semconv.CONVERSATION_ID] = self.conversation
        reasons: list[str] = []
        for reason in self.choices.values():  # most often one: a comprehension, or a list of the view, takes longer
            if reason is not None:
                reasons.append(reason)  # noqa: PERF401
        if reasons:
            attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
        if self.status is not None and (not self.route.is_turn or self.status != "completed"):
            attributes[semconv.RESPONSE_STATUS] = self.status
        # Fetching a response makes no tokens: they were counted when it was made.
        if self.usage is not None and self.route.is_turn:
            self.tokens = add_usage(attributes, self.usage, self.route.api)
        return attributes

    def token_counts(self) -> Tokens:
        """Return the input and output tokens, also where no span of ours asked for the attributes."""
        if self.tokens[0] is None and self.usage is not None:
            self.final_attributes()
        return self.tokens


def read_reply(reply: Reply, value: Any) -> None:
    """Read a whole reply: a model, a dict, or whatever a server sent in its place."""
    kind = type(value)
    if value is None or kind is str or kind is bytes:
        reply.error_type = INVALID_RESPONSE
    elif reply.route.api == "responses":
        read_response(reply, value)
    else:
        try:
            said = value.__dict__
            id_, choices, reply.usage = said["id"], said["choices"], said["usage"]
            texts = said["model"], said["service_tier"], said["system_fingerprint"]
        except (AttributeError, KeyError, TypeError) as odd:  # not as the newest client has them
            pass_on(odd)
            id_, choices, reply.usage, *others = CHAT_COMPLETION.of(value)
            texts = tuple(others)
        if (id_ := id_of(id_)) is not None:
            reply.ids.append(id_)
        reply.attributes = reply.texts.of(texts).copy()  # nothing has been said before
        read_choices(reply, choices)
        if not reply.choices:
            read_error(reply, field(value, "error"))


def read_choices(reply: Reply, choices: Any) -> None:
    """Read chat choices, whole or partial: their finish reasons; they are kept if they may hold what is evidence."""
    if type(choices) is not list and not isinstance(choices, (list, tuple)):
        return
    reasons, position, is_kept = reply.choices, 0, reply.pieces is not None
    for choice in choices:
        try:
            said = choice.__dict__
            index, reason, message = said["index"], said["finish_reason"], said.get("message")
            if message is not None and message.__dict__["tool_calls"]:
                is_kept = True
        except (AttributeError, KeyError, TypeError) as odd:  # not as the newest client has them
            pass_on(odd)
            index, reason = CHOICE.of(choice)
            is_kept = True
        key = index if type(index) is int else position
        position += 1
        if len(reasons) == MAX_CHOICES and key not in reasons:
            continue
        if type(reason) is not str or reason not in FINISH_REASONS:
            reason = text_of(reason)
        if reason is not None:
            reasons[key] = reason
        else:
            reasons.setdefault(key, None)
    if is_kept:
        reply.kept["choices"] = choices


def read_response(reply: Reply, response: Any) -> bool:
    """Read a response object, whole or as far as it is there; return whether it brought the reply's first id."""
    said = said_by(response)
    id_, usage, model, tier, status, conversation, background, output, details, error, fingerprint = said
    is_new = reply.add_id(id_) and len(reply.ids) == 1
    if output is not None:
        reply.kept["output"] = output
    if len(reply._leaves) > LEFT_BY_THESE:
        reply.keep(response, LEFT_BY_THESE)
    reply.attributes.update(reply.texts.of((model, tier, fingerprint)))
    if usage is not None:
        reply.usage = usage
    if status == "completed":
        reply.status = "completed"
    elif (status := text_of(status)) is not None:
        reply.status = status
    if conversation is not None:
        reply.conversation = conversation_id_in(conversation)
    reply.goes_on = background is True and reply.status in UNFINISHED
    calls_tools = read_output(reply, output)
    reason = finish_reason(reply.status, details, calls_tools)
    if reason is not None:
        reply.choices[0] = reason
    if error:
        read_error(reply, error)
    if reply.status == "failed" and reply.error_type is None and reply.route.is_turn:
        reply.error_type = "failed"
    return is_new


def read_output(reply: Reply, items: Any) -> bool | None:
    """Read the kinds of a response's output items; return whether it calls tools, None where there is no list of them.

    That the server compacted what came before in order to answer is noted; ``/responses/compact`` does nothing else.
    """
    if type(items) is not list and not isinstance(items, (list, tuple)):
        return None
    calls_tools = False
    for item in items:
        try:
            kind = item.__dict__["type"]
        except (AttributeError, KeyError, TypeError) as odd:  # not as the newest client has them
            pass_on(odd)
            kind = field(item, "type")
        if kind in TOOL_CALL_ITEMS:
            calls_tools = True
        elif kind == COMPACTION and reply.route is RESPONSES:
            reply.attributes[semconv.CONVERSATION_COMPACTED] = True
    return calls_tools


def finish_reason(status: str | None, details: Any, calls_tools: bool | None) -> str | None:
    """Return why a response ended; None while it has not, or if it says nothing of it."""
    if status != "completed":
        if status == "incomplete":
            reason = text_of(field(details, "reason")) or status
            return INCOMPLETE_REASONS.get(reason, reason)
        if status in STATUS_REASONS:
            return STATUS_REASONS[status]
        if status is None or status in UNFINISHED:
            return None
    return None if calls_tools is None else "tool_calls" if calls_tools else "stop"


def read_error(reply: Reply, error: Any) -> None:
    """Note the error that a reply carries: of the code an attribute is made, the text goes with the content."""
    if not error or not reply.route.is_turn:
        return
    reply.error = error
    kind = field(error, "type")
    # An event of the type "error" says nothing by that.
    named = error_code_of(kind) if kind != "error" else None
    reply.error_type = error_code_of(field(error, "code")) or named or OTHER
