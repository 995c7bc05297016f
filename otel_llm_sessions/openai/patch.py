"""The one place that is patched: ``OpenAI.request`` and ``AsyncOpenAI.request``."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import INVALID_SPAN, Span

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai import notes
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.content import CallContent
from otel_llm_sessions.openai.conversations import ConversationCall
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.flow import abegin, adeliver, begin, begin_at_once, deliver
from otel_llm_sessions.openai.outbox import deliver_soon
from otel_llm_sessions.openai.place import Before, Below, places_for_wrappers, places_of_wrappers
from otel_llm_sessions.openai.raw import parse, watch_http
from otel_llm_sessions.openai.request import Request, Sent, read_history, read_request, sent_by
from otel_llm_sessions.openai.routes import CONVERSATIONS, USUAL, find
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.sending_on import sent_on
from otel_llm_sessions.openai.server import server_of
from otel_llm_sessions.openai.stream import watch_stream
from otel_llm_sessions.openai.users import read_user
from otel_llm_sessions.sessions.blocks import OPEN, seen_from_here, within
from otel_llm_sessions.sessions.inside import session_inside
from otel_llm_sessions.sessions.sources import Given, from_baggage, from_context
from otel_llm_sessions.telemetry.span import SPAN_KEY, is_being_sent, outside
from otel_llm_sessions.telemetry.values import error_type_of

NOTHING_SAID = Context()
UNSAID = object()
"""What an argument is that was not passed."""

Reader = Callable[[Any, Call], None]
"""Begins to watch a reply being read, or reads it at once."""


class Patch:
    """Puts the wrappers onto the client's classes, and takes them off again."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._patched: list[tuple[Any, Any, Before]] = []
        """Class, wrapper, and what stood where that is."""

    def apply(self, openai: ModuleType) -> None:
        """Wrap the request methods; does nothing the second time, but for classes that were imported anew."""
        if not self._runtime.switch.is_on:
            return
        types = ReplyTypes(openai)
        self._runtime.costs.prepare()  # what it imports needs much of what openai does, which is there now
        for name, wrap in (("OpenAI", _sync_request), ("AsyncOpenAI", _async_request)):
            client: Any = getattr(openai, name)
            if any(client is patched for patched, _, _ in self._patched):
                continue
            for place in places_for_wrappers(client):
                wrapper = wrap(place.below, self._runtime, types)
                self._patched.append((client, wrapper, place.before))
                place.put(wrapper)

    def remove(self) -> None:
        """Take the wrappers off; where somebody has wrapped on top of one, it stays and passes calls through."""
        self._runtime.switch.is_on = False
        for client, wrapper, before in self._patched:
            for place in places_of_wrappers(client):
                if place.own is wrapper:
                    place.put_back(before)
        self._patched.clear()


class ReplyTypes:
    """Tells replies apart by their types; the types are looked up when openai is there."""

    def __init__(self, openai: ModuleType) -> None:
        from openai._legacy_response import LegacyAPIResponse
        from openai._response import BaseAPIResponse

        self._readers: tuple[tuple[Any, Reader | None], ...] = (
            (openai.BaseModel, None),
            ((openai.Stream, openai.AsyncStream), watch_stream),
            ((LegacyAPIResponse, BaseAPIResponse), _watch_raw),
        )
        self.known: Bounded[type, Reader | None] = Bounded(256)
        """The readers of the types that replies had so far; None for those that are there as a whole."""
        self.known_by = self.known.get

    def reader_of(self, kind: type) -> Reader | None:
        """Return what reads replies of a type, from now on among those that are known."""
        # isinstance() of a pydantic model goes through ABCMeta in Python (pydantic 2), which costs more than the rest.
        self.known[kind] = reader = self._reader_of(kind)
        return reader

    def _reader_of(self, kind: type) -> Reader | None:
        for types, reader in self._readers:
            if issubclass(kind, types):
                return reader
        return watch_http if hasattr(kind, "iter_bytes") and hasattr(kind, "aclose") else self._read_other

    def _read_other(self, reply: Any, call: Call) -> None:
        # Who wraps the same method below us may have put a proxy (wrapt's) in front of a stream, and reads that.
        inner = getattr(reply, "__wrapped__", reply)
        reader = None if inner is reply else self.reader_of(type(inner))
        if reader is not None:
            reader(inner, call)
        else:
            call.read(parse(reply) if isinstance(reply, (str, bytes)) else reply)
            finish(call)


def _unknown(reply: Any, call: Call) -> None:
    """Stand for the reader of a type that no reply had so far."""


def _watch_raw(reply: Any, call: Call) -> None:
    watch_http(reply.http_response, call)


def _start(runtime: Runtime, client: Any, options: Any, stream: bool) -> Call | None:
    """Begin the call that a request is, as far as nobody has to be waited for; None if it is to pass untouched."""
    call: Call | None = None
    try:
        method, url, _, body, _ = sent = sent_by(options)
        match = USUAL.get(url) if method == "post" else None
        if match is None and (match := find(method, url)) is None:
            return None
        made_in = get_current()
        context = seen_from_here(made_in) if OPEN else made_in
        ambient: Span = INVALID_SPAN
        named_in = NOTHING_SAID
        # The body stays the same object where a request is sent once more with other options.
        sending: list[object] = [client, body, url]
        if context:  # most often there is nothing in it, or only a span: nothing that suppresses or names a session
            ambient = span if isinstance(span := context.get(SPAN_KEY), Span) else INVALID_SPAN  # as get_current_span
            if len(context) > (ambient is not INVALID_SPAN):
                if not is_instrumentation_enabled() or is_being_sent(context, sending):
                    return None
                context, ambient = outside(context, ambient)
                named_in = context
        if notes.notes:
            notes.settle()
        server = server_of(client, url)
        if match.route is CONVERSATIONS:
            call = ConversationCall(runtime, match, server, sent, made_in, sending)
        else:
            request = read_request(match, client, options, sent, server, named_in, runtime.keys, stream)
            if runtime.reads_more:
                request = _read_more(request, client, sent, runtime)
            if named_in and request.evidence.given is not None:
                context = _of_the_calls_session(request.evidence.given, context)
            recorder = runtime.contents if match.route.is_turn else None
            content = None if recorder is None else CallContent(recorder, sent)
            call = Call(runtime, request, made_in, context, ambient, sending, content)
        if runtime.begins_at_once:
            begin_at_once(call)
        return call
    except BaseException as error:
        _give_up(call, error)
        return None


def _read_more(request: Request, client: Any, sent: Sent, runtime: Runtime) -> Request:
    """Return a request with what only some settings have read of it."""
    if runtime.histories is not None:
        request = read_history(request, sent, runtime.histories)
    return read_user(request, client, sent) if runtime.settings.user else request


def _of_the_calls_session(given: Given, context: Context) -> Context:
    """Return the context of a call that belongs to another session than its place: what is started below is its own."""
    if given.source == "context":
        return context
    around = from_context(context) or from_baggage(context)
    if around is None or around.session_id == given.session_id:
        return context
    return session_inside(given.session_id, context).into(context, within())


def _answered(call: Call, result: Any, types: ReplyTypes) -> None:
    """Make the context again what it was, and read the reply, or watch it being read."""
    call.sending.clear()  # as in ``_returned``, which failed calls go through
    if call.span.sent_in is not call.made_in:
        attach(call.made_in)
    try:
        kind = type(result)
        reader = types.known_by(kind, _unknown)
        if reader is _unknown:
            reader = types.reader_of(kind)
        if reader is None:
            call.read(result)
            finish(call)
        else:
            reader(result, call)
    except Exception as error:
        report("read a reply", error)
        _finish(call, None)


def _finish(call: Call, error: BaseException | None) -> None:
    try:
        if call.content is not None:
            call.content.fail(error)
        finish(call, None if error is None else error_type_of(error))
    except Exception as error:
        report("end a span", error)


def _wait(call: Call, client: Any, options: Any, original: Callable[..., Any]) -> Call | None:
    """Begin a call for which somebody has to be asked; None if that fails, and it is to pass untouched."""
    try:
        lookup = call.runtime.lookup
        begin(call, None if lookup is None else partial(lookup.ask, client, options, original, call.request))
        return call
    except BaseException as error:
        _give_up(call, error)
        return None


async def _await(call: Call, client: Any, options: Any, original: Callable[..., Any]) -> Call | None:
    """As ``_wait``, for callers on an event loop."""
    try:
        lookup = call.runtime.lookup
        ask = lookup.on_loop() if lookup is not None else None
        await abegin(call, None if ask is None else partial(ask, client, options, original, call.request))
        return call
    except BaseException as error:
        _give_up(call, error)
        return None


def _give_up(call: Call | None, error: BaseException) -> None:
    """End what a call had begun before it failed to start."""
    if call is not None:
        _finish(call, None)
    report("start a span", error)


def _as_said(original: Callable[..., Any], args: Any, said: dict[str, Any]) -> Callable[..., Any]:
    """Return what sends a request with the arguments that were passed, and with no others."""
    # `get` and `post` of the newest client (openai 3.57) pass these two, and nothing else: they are named throughout,
    # since stars would cost as much as a third of reading the request.
    passed = {name: value for name, value in said.items() if value is not UNSAID}
    return lambda self, cast_to, options, **_: original(self, cast_to, options, *args, **passed)


# In the two wrappers all stands in one `try`: what interrupts it anywhere (Ctrl-C, a time limit) leaves neither a span
# open nor a context attached.


def _sync_request(below: Below, runtime: Runtime, types: ReplyTypes) -> Callable[..., Any]:
    switch, waits = runtime.switch, not runtime.begins_at_once
    owner, found, usual, holder = below

    @functools.wraps(usual)
    def request(
        self: Any, cast_to: Any, options: Any, *args: Any, stream: Any = UNSAID, stream_cls: Any = UNSAID, **more: Any
    ) -> Any:
        call = None
        try:
            send = usual if type(self) is owner and holder.request is usual else found
            if args or more or stream is UNSAID or stream_cls is UNSAID:
                send = _as_said(send, args, {"stream": stream, "stream_cls": stream_cls, **more})
            if switch.is_on:
                call = _start(runtime, self, options, stream is not UNSAID and bool(stream))
                if waits and call is not None:
                    call = _wait(call, self, options, found)
            if call is None:
                return send(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            if runtime.propagation is not None:
                options = sent_on(call, self, options)
            if call.span.sent_in is not call.made_in:
                attach(call.span.sent_in)
            result = send(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            _answered(call, result, types)
            if call.outbox:
                deliver(call)
            return result
        except BaseException as error:
            if call is not None:
                _returned(call)
                _finish(call, error)
                deliver(call)
            raise

    return request


def _async_request(below: Below, runtime: Runtime, types: ReplyTypes) -> Callable[..., Awaitable[Any]]:
    switch, waits = runtime.switch, not runtime.begins_at_once
    owner, found, usual, holder = below

    @functools.wraps(usual)
    async def request(
        self: Any, cast_to: Any, options: Any, *args: Any, stream: Any = UNSAID, stream_cls: Any = UNSAID, **more: Any
    ) -> Any:
        call = None
        try:
            send = usual if type(self) is owner and holder.request is usual else found
            if args or more or stream is UNSAID or stream_cls is UNSAID:
                send = _as_said(send, args, {"stream": stream, "stream_cls": stream_cls, **more})
            if switch.is_on:
                call = _start(runtime, self, options, stream is not UNSAID and bool(stream))
                if waits and call is not None:
                    call = await _await(call, self, options, found)
            if call is None:
                return await send(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            if runtime.propagation is not None:
                options = sent_on(call, self, options)
            if call.span.sent_in is not call.made_in:
                attach(call.span.sent_in)
            result = await send(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            _answered(call, result, types)
            if call.outbox:
                await adeliver(call)
            return result
        except Exception as error:
            if call is not None:
                _returned(call)
                _finish(call, error)
                await adeliver(call)
            raise
        except BaseException as error:
            if call is not None:
                _cut_off(call, error)
            raise

    return request


def _returned(call: Call) -> None:
    """Make the context again what it was; what is asked from here on is asked anew."""
    call.sending.clear()
    if call.span.sent_in is not call.made_in:
        attach(call.made_in)


def _cut_off(call: Call, error: BaseException) -> None:
    """End a call whose task is cancelled, or whose coroutine is thrown away; waits for nothing."""
    # That happens wherever the coroutine is collected, often in another context, which is none of ours to change.
    is_elsewhere = isinstance(error, GeneratorExit) and get_current() is not call.span.sent_in
    if is_elsewhere:
        call.sending.clear()
    else:
        _returned(call)
    if isinstance(error, GeneratorExit):
        notes.leave(call, cut_short=False)
    else:
        _finish(call, error)
        deliver_soon(call)
