"""The one place that is patched: ``OpenAI.request`` and ``AsyncOpenAI.request``."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import INVALID_SPAN, get_current_span

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai import notes
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.raw import parse, watch_http
from otel_llm_sessions.openai.request import read_request
from otel_llm_sessions.openai.routes import find
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.server import server_of
from otel_llm_sessions.openai.stream import watch_stream
from otel_llm_sessions.sessions.blocks import OPEN, seen_from_here, within
from otel_llm_sessions.sessions.inside import session_inside
from otel_llm_sessions.sessions.link import Record
from otel_llm_sessions.sessions.resolver import is_unsure, lookup_keys
from otel_llm_sessions.sessions.sources import Given, from_baggage, from_context
from otel_llm_sessions.telemetry.values import error_type_of

NOTHING_SAID = Context()

Reader = Callable[[Any, Call], "Record | None"]
"""Reads a reply, or begins to watch it being read; returns what is to be recorded now."""


class Patch:
    """Puts the wrappers onto the client's classes, and takes them off again."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._patched: list[tuple[Any, Any, Any]] = []

    def apply(self, openai: ModuleType) -> None:
        """Wrap the request methods; does nothing the second time."""
        if self._patched or not self._runtime.enabled:
            return
        types = ReplyTypes(openai)
        for name, wrap in (("OpenAI", _sync_request), ("AsyncOpenAI", _async_request)):
            client: Any = getattr(openai, name)
            wrapper = wrap(client.request, self._runtime, types)
            # The classes inherit `request` (openai 1.66 to 3.54), unless somebody has patched it before us.
            self._patched.append((client, wrapper, client.__dict__.get("request")))
            client.request = wrapper

    def remove(self) -> None:
        """Take the wrappers off; where somebody has wrapped on top of one, it stays and passes calls through."""
        self._runtime.enabled = False
        for client, wrapper, own in self._patched:
            if client.__dict__.get("request") is not wrapper:
                continue
            if own is None:
                del client.request
            else:
                client.request = own
        self._patched.clear()


class ReplyTypes:
    """Tells replies apart by their types; the types are looked up when openai is there."""

    def __init__(self, openai: ModuleType) -> None:
        from openai._legacy_response import LegacyAPIResponse
        from openai._response import BaseAPIResponse

        self._readers: tuple[tuple[Any, Reader], ...] = (
            (openai.BaseModel, _read),
            ((openai.Stream, openai.AsyncStream), watch_stream),
            ((LegacyAPIResponse, BaseAPIResponse), _watch_raw),
        )
        # isinstance() of a pydantic model goes through ABCMeta in Python (pydantic 2), which costs more than the rest.
        self.reader_of: Callable[[type], Reader] = functools.lru_cache(maxsize=256)(self._reader_of)

    def _reader_of(self, kind: type) -> Reader:
        for types, reader in self._readers:
            if issubclass(kind, types):
                return reader
        return watch_http if hasattr(kind, "iter_bytes") and hasattr(kind, "aclose") else _read_other


def _read(reply: Any, call: Call) -> Record | None:
    call.read(reply)
    return call.finish()


def _watch_raw(reply: Any, call: Call) -> Record | None:
    return watch_http(reply.http_response, call)


def _read_other(reply: Any, call: Call) -> Record | None:
    return _read(parse(reply) if isinstance(reply, (str, bytes)) else reply, call)


def _begin(runtime: Runtime, client: Any, options: Any, stream: bool) -> Call | None:
    """Return the call that a request is, or None if it is to pass through untouched."""
    match = find(options.method, options.url)
    if match is None:
        return None
    outside = get_current()
    context = seen_from_here(outside) if OPEN else outside
    ambient = get_current_span(context) if context else INVALID_SPAN
    # Most often nothing is in the context, or only a span: nothing that suppresses, nothing that names a session.
    says_more = len(context) > (ambient is not INVALID_SPAN)
    if says_more and not is_instrumentation_enabled():
        return None
    if notes.notes:
        notes.settle()
    named_in = context if says_more else NOTHING_SAID
    request = read_request(match, client, options, server_of(client, options.url), named_in, runtime.keys, stream)
    if says_more and request.evidence.given is not None:
        context = _of_the_calls_session(request.evidence.given, context)
    return Call(runtime, request, context, ambient, outside)


def _of_the_calls_session(given: Given, context: Context) -> Context:
    """Return the context of a call that belongs to another session than its place: what is started below is its own."""
    if given.source == "context":
        return context
    around = from_context(context) or from_baggage(context)
    if around is None or around.session_id == given.session_id:
        return context
    return session_inside(given.session_id, context).into(context, within())


def _open(call: Call, client: Any, options: Any, original: Callable[..., Any]) -> Context:
    """Look up the session, and start the span; return the context to send the request in."""
    store, lookup, evidence = call.runtime.store, call.runtime.lookup, call.request.evidence
    keys = lookup_keys(evidence)
    answers = store.get_all(keys) if keys else ()
    found = answers[0] if answers else None
    if lookup and is_unsure(found) and lookup.begin(call, found, client, options, original):
        return call.context
    claim = call.resolve(answers)
    return call.start(claim is not None and store.claim(claim))


async def _aopen(call: Call, client: Any, options: Any, original: Callable[..., Any]) -> Context:
    """As ``_open``, for callers on an event loop."""
    store, lookup, evidence = call.runtime.store, call.runtime.lookup, call.request.evidence
    if call.runtime.store_never_waits and not lookup:
        return _open(call, client, options, original)
    keys = lookup_keys(evidence)
    answers = await store.aget_all(keys) if keys else ()
    found = answers[0] if answers else None
    if lookup and is_unsure(found) and lookup.abegin(call, found, client, options, original):
        return call.context
    claim = call.resolve(answers)
    return call.start(claim is not None and await store.aclaim(claim))


def _propagated(call: Call, client: Any, options: Any) -> Any:
    """Return the options to send, with what is to be sent on of the session."""
    try:
        propagation = call.runtime.propagation
        return propagation.applied(options, client, call.request, call.carried()) if propagation else options
    except Exception as error:
        report("send a session on", error)
        return options


def _observe(call: Call, result: Any, types: ReplyTypes) -> Record | None:
    """Read the reply, or watch it being read; return what is to be recorded now."""
    try:
        return types.reader_of(type(result))(result, call)
    except Exception as error:
        report("read a reply", error)
        return _finish(call, None)


def _finish(call: Call, error_type: str | None) -> Record | None:
    try:
        return call.finish(error_type)
    except Exception as error:
        report("end a span", error)
        return None


def _sync_request(original: Callable[..., Any], runtime: Runtime, types: ReplyTypes) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = context = None
        if runtime.enabled:
            try:
                call = _begin(runtime, self, options, bool(kwargs.get("stream")))
                if call is not None:
                    context = _open(call, self, options, original)
            except Exception as error:
                report("start a span", error)
                _give_up(call)
                call = None
        if call is None or context is None:
            return original(self, cast_to, options, *args, **kwargs)
        previous = call.outside
        if runtime.propagation is not None:
            options = _propagated(call, self, options)
        if context is not previous:
            attach(context)
        try:
            result = original(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            attach(previous)
            runtime.remember(_finish(call, error_type_of(error)))
            raise
        if context is not previous:
            attach(previous)
        runtime.remember(_observe(call, result, types))
        return result

    return request


def _async_request(
    original: Callable[..., Awaitable[Any]], runtime: Runtime, types: ReplyTypes
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = context = None
        if runtime.enabled:
            try:
                call = _begin(runtime, self, options, bool(kwargs.get("stream")))
                if call is not None:
                    context = await _aopen(call, self, options, original)
            except Exception as error:
                report("start a span", error)
                _give_up(call)
                call = None
        if call is None or context is None:
            return await original(self, cast_to, options, *args, **kwargs)
        previous = call.outside
        if runtime.propagation is not None:
            options = _propagated(call, self, options)
        if context is not previous:
            attach(context)
        try:
            result = await original(self, cast_to, options, *args, **kwargs)
        except GeneratorExit:
            # A coroutine that is thrown away is closed wherever that happens, often in another context, which is
            # none of ours to change.
            if get_current() is context:
                attach(previous)
            notes.leave(call, cut_short=False)
            raise
        except Exception as error:
            attach(previous)
            await runtime.aremember(_finish(call, error_type_of(error)))
            raise
        except BaseException as error:
            attach(previous)
            # A task that is being cancelled must not wait for a store.
            runtime.remember_soon(_finish(call, error_type_of(error)))
            raise
        if context is not previous:
            attach(previous)
        await runtime.aremember(_observe(call, result, types))
        return result

    return request


def _give_up(call: Call | None) -> None:
    """End what a call had begun before it failed to start."""
    if call is not None:
        _finish(call, None)
