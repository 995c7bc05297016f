"""Asks the provider what nobody else knows: the chain of a ``previous_response_id`` (``PROVIDER_LOOKUP``).

Beside the application's request and through its own client, un-instrumented: in a thread for ``OpenAI``, in a task for
``AsyncOpenAI``. The call goes out and comes back as if nobody asked; its span is made when the answer is there, or, if
the call ends first, with what is known then.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from opentelemetry.context import Context, attach, get_current
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

from otel_llm_sessions import forks
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.chain_walk import Walk, is_response
from otel_llm_sessions.openai.request import mapping
from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.stores.patience import within

if TYPE_CHECKING:
    from otel_llm_sessions.openai.call import Call
    from otel_llm_sessions.openai.deferral import Deferral
    from otel_llm_sessions.openai.runtime import Runtime
    from otel_llm_sessions.sessions.link import SessionLink

TIME_LIMIT: Final = 2.0
"""Seconds that one walk may take."""

REST: Final = 30.0
"""Seconds for which a provider that failed is not asked again."""

GONE: Final = 3600.0
"""Seconds for which a response is not asked for again that the provider does not have, or whose chain is too long."""

HEAD_START: Final = 0.005
"""Seconds by which the application's request comes first, so that an idle connection of the pool is its own."""

POOL_PATIENCE: Final = 0.05
"""Seconds to wait for a connection of the application's pool."""

SPARE_CONNECTIONS: Final = 2
"""How many connections of the application's pool must be free to take one of them."""

MAX_WALKS: Final = 16
"""How many walks there are at a time."""

MAX_RESTING: Final = 1024
MAX_BODY: Final = 16 * 1024 * 1024
RAW_RESPONSE_HEADER: Final = "X-Stainless-Raw-Response"

Original = Callable[..., Any]
"""``request`` of the client's class, as it was before it was patched."""


class Waiting:
    """A walk, and the calls that wait for its answer."""

    def __init__(self, walk: Walk, server: str) -> None:
        self.walk = walk
        self.server = server
        self.calls: list[Deferral] = []
        self.deadline = time.monotonic() + TIME_LIMIT + HEAD_START
        self.task: asyncio.Task[None] | None = None

    @property
    def seconds_left(self) -> float:
        """How long the walk may still take."""
        return self.deadline - time.monotonic()

    @property
    def too_long(self) -> str | None:
        """The response whose chain turned out to be too long for the time, or for so many steps; None if none did."""
        is_short = self.walk.is_complete or (self.seconds_left > 0 and not self.walk.is_endless)
        return None if is_short else self.walk.answered

    @property
    def is_overdue(self) -> bool:
        """Whether the walk may never end: that of an event loop which was closed over it does not."""
        return self.seconds_left < -TIME_LIMIT


class ProviderLookup:
    """Walks chains at the provider, one walk for all calls that ask for the same response."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._walks: dict[tuple[str, str], Waiting] = {}
        self._resting: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lock = threading.Lock()
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Begin anew in a child process: threads and tasks stay with the parent."""
        self._lock = threading.Lock()
        self._walks = {}

    def begin(self, call: Call, found: SessionLink | None, client: Any, original: Original) -> bool:
        """Ask beside the request that is about to be sent by a blocking client.

        Args:
            call: the call; it is deferred if this returns True, and then answered from another thread.
            found: what the store has of the previous turn; see ``is_unsure``.
            client: the application's client.
            original: how it sends a request, un-instrumented.

        Returns:
            False if there is nothing to ask for, or nobody can be asked now: the provider rests, or too many walks are
            under way.
        """
        waiting, is_new = self._join(call, found)
        if waiting is not None and is_new:
            context = copy_context()
            thread = threading.Thread(
                target=lambda: context.run(self._walk, waiting, client, original),
                name="otel-llm-sessions-lookup",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:  # no thread to spare, or the interpreter ends: the call's end settles it
                report("start a look-up at the provider", error)
                self._leave(waiting)
        return waiting is not None

    def abegin(self, call: Call, found: SessionLink | None, client: Any, original: Original) -> bool:
        """As ``begin``, for a client on an event loop of asyncio; on another kind of loop nobody is asked."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        waiting, is_new = self._join(call, found)
        if waiting is not None and is_new:
            waiting.task = task = loop.create_task(self._awalk(waiting, client, original))
            # A loop that is closed over it is the application's way to end; asyncio need not complain of it.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return waiting is not None

    def _join(self, call: Call, found: SessionLink | None) -> tuple[Waiting | None, bool]:
        """Return the walk that answers the call, and whether it is yet to be begun."""
        evidence, server = call.request.evidence, call.request.server.scope
        previous_id = evidence.previous_id
        if evidence.given is not None or previous_id is None or not call.request.match.route.is_turn:
            return None, False
        with self._lock:
            # What a turn's session was named by for want of a better name is what would be asked for.
            ends_at = previous_id if found is None else found.session_id
            if any(self._rests(server, id_) for id_ in ("", previous_id, ends_at)):
                return None, False
            waiting = self._walks.get((server, previous_id))
            if waiting is not None and waiting.seconds_left <= 0:
                if not waiting.is_overdue:
                    return None, False
                waiting = None
            is_new = waiting is None
            if waiting is None:
                if len(self._walks) >= MAX_WALKS and not self._forget_overdue():
                    return None, False
                waiting = Waiting(Walk(previous_id, self._runtime.settings.metadata_keys), server)
                self._walks[server, previous_id] = waiting
            waiting.calls.append(call.defer(found))
            return waiting, is_new

    def _rests(self, server: str, response_id: str) -> bool:
        until = self._resting.get((server, response_id))
        return until is not None and until > time.monotonic()

    def _rest(self, server: str, response_id: str = "") -> None:
        with self._lock:
            self._resting[server, response_id] = time.monotonic() + (GONE if response_id else REST)
            self._resting.move_to_end((server, response_id))
            while len(self._resting) > MAX_RESTING:
                self._resting.popitem(last=False)

    def _forget_overdue(self) -> bool:
        """Make room."""
        overdue = [key for key, waiting in self._walks.items() if waiting.is_overdue]
        for key in overdue:
            del self._walks[key]
        return bool(overdue)

    def _leave(self, waiting: Waiting) -> list[Deferral]:
        """Let nobody join the walk any more; return the calls that wait for it."""
        if (too_long := waiting.too_long) is not None:
            self._rest(waiting.server, too_long)
        key = waiting.server, waiting.walk.previous_id
        with self._lock:
            if self._walks.get(key) is waiting:
                del self._walks[key]
            return waiting.calls

    # --- the walk: the same twice, but for what waits -----------------------------------------------------------

    def _walk(self, waiting: Waiting, client: Any, original: Original) -> None:
        walk, store = waiting.walk, self._runtime.store
        attach(_suppressed())
        try:
            time.sleep(HEAD_START)
            while (asked := walk.asking) is not None:
                (link,) = store.get_all((response_key(asked, waiting.server),))
                if link is not None and walk.know(link):
                    continue
                if self._may_go_on(waiting, client):
                    options = _options(asked, waiting.seconds_left)
                    walk.take(_retrieve(client, original, options, waiting.deadline))
        except Exception as error:
            self._lost(waiting, error, client)
        finally:
            calls = self._leave(waiting)
        for call in calls:
            self._answer(call, walk)
        if self._runtime.enabled:
            for record in walk.records(waiting.server):
                self._runtime.remember(record)

    async def _awalk(self, waiting: Waiting, client: Any, original: Original) -> None:
        walk, store = waiting.walk, self._runtime.store
        attach(_suppressed())
        try:
            await asyncio.sleep(HEAD_START)
            while (asked := walk.asking) is not None:
                (link,) = await store.aget_all((response_key(asked, waiting.server),))
                if link is not None and walk.know(link):
                    continue
                if self._may_go_on(waiting, client):
                    options = _options(asked, waiting.seconds_left)
                    walk.take(await within(waiting.seconds_left, _aretrieve(client, original, options)))
        except Exception as error:
            self._lost(waiting, error, client)
        finally:
            calls = self._leave(waiting)
        for call in calls:
            await self._aanswer(call, walk)
        if self._runtime.enabled:
            for record in walk.records(waiting.server):
                await self._runtime.aremember(record)

    def _may_go_on(self, waiting: Waiting, client: Any) -> bool:
        """Whether to retrieve one more response; else the walk is over."""
        walk = waiting.walk
        is_gone = walk.asking is not None and self._rests(waiting.server, walk.asking)
        if not is_gone and waiting.seconds_left > 0 and self._runtime.enabled and has_room(client):
            return True
        walk.lose(gone=is_gone)
        return False

    def _lost(self, waiting: Waiting, error: Exception, client: Any) -> None:
        """End the walk because the provider did not answer, or not with a response."""
        asked = waiting.walk.asking
        is_gone = asked is not None and _is_gone(error, asked)
        if asked is not None and is_gone:
            self._rest(waiting.server, asked)
        elif waiting.too_long is None and not _is_of_this_process(error, client):
            self._rest(waiting.server)
        waiting.walk.lose(gone=is_gone)

    def _answer(self, call: Deferral, walk: Walk) -> None:
        """Make the span of a call, or have what it left behind say its session if it has ended."""
        remember, store = self._runtime.remember, self._runtime.store
        try:
            if not call.take():
                return remember(call.rename(walk))
            claim = call.resolve(walk)
            remember(call.make(claim is not None and store.claim(claim)))
        except Exception as error:
            report("answer a call", error)
        remember(call.made())

    async def _aanswer(self, call: Deferral, walk: Walk) -> None:
        """As ``_answer``, for callers on an event loop."""
        remember, store = self._runtime.aremember, self._runtime.store
        try:
            if not call.take():
                return await remember(call.rename(walk))
            claim = call.resolve(walk)
            await remember(call.make(claim is not None and await store.aclaim(claim)))
        except Exception as error:
            report("answer a call", error)
        except BaseException:
            # The task is cancelled, or its loop ends; the call's end may have been left to it.
            self._runtime.remember_soon(call.cut_off())
            raise
        await remember(call.made())


def _suppressed() -> Context:
    """Return the context of a walk, whose thread or task has one of its own: what it does is nobody's span."""
    with suppress_instrumentation(), suppress_http_instrumentation():
        return get_current()


def has_room(client: Any) -> bool:
    """Whether a request more would not keep the application's own requests waiting for a connection.

    Looks at httpcore's pool (1.0 to httpcore2 2.16) where there is one; any other transport is taken to have room.
    """
    pool = _pool_of(client)
    most, requests = getattr(pool, "_max_connections", None), getattr(pool, "_requests", None)
    if not isinstance(most, int) or not isinstance(requests, list):
        return True
    return most - len(requests) >= SPARE_CONNECTIONS


def _pool_of(client: Any) -> Any:
    return getattr(getattr(getattr(client, "_client", None), "_transport", None), "_pool", None)


def _options(response_id: str, seconds: float) -> Any:
    """Return the request that retrieves a response: once, in time, its body left to be read."""
    import openai
    from openai._models import FinalRequestOptions

    return FinalRequestOptions.construct(
        method="get",
        url=f"/responses/{quote(response_id, safe='')}",
        headers={RAW_RESPONSE_HEADER: "stream"},
        max_retries=0,
        timeout=openai.Timeout(seconds, pool=min(seconds, POOL_PATIENCE)),
    )


def _retrieve(client: Any, original: Original, options: Any, deadline: float) -> Any:
    """Return the response that the provider answers with."""
    body = bytearray()
    try:
        response = original(client, object, options).http_response
        try:
            for piece in response.iter_bytes():
                body += piece
                _check_size(body)
                # The client's own limits hold for each step: every piece may be in time while the whole is not.
                if time.monotonic() > deadline:
                    raise TimeoutError("the provider's answer takes too long")
        finally:
            response.close()
    finally:
        if (pool := _left_open(client)) is not None:
            pool.close()
    return _response_in(body)


async def _aretrieve(client: Any, original: Original, options: Any) -> Any:
    """As ``_retrieve``, for a client on an event loop; the caller bounds its time."""
    body = bytearray()
    try:
        response = (await original(client, object, options)).http_response
        try:
            async for piece in response.aiter_bytes():
                body += piece
                _check_size(body)
        finally:
            await response.aclose()
    finally:
        if (pool := _left_open(client)) is not None:
            await pool.aclose()
    return _response_in(body)


def _left_open(client: Any) -> Any:
    """Return the connection pool of a client that the application has closed meanwhile; None of any other transport.

    It keeps a connection that was only being made when it was closed (httpcore 1.0 to httpcore2 2.16).
    """
    return _pool_of(client) if client.is_closed() else None


def _check_size(body: bytearray) -> None:
    if len(body) > MAX_BODY:
        raise ValueError("the provider's answer is too large")


def _response_in(body: bytearray) -> Any:
    reply = json.loads(body)
    if not is_response(reply):
        raise ValueError("the provider answered with something else than a response")
    return reply


def _is_of_this_process(error: Exception, client: Any) -> bool:
    """Whether an error says nothing about the provider: the client was closed meanwhile, or its pool is exhausted."""
    return bool(client.is_closed()) or type(error.__cause__).__name__ == "PoolTimeout"


def _is_gone(error: Exception, response_id: str) -> bool:
    """Whether an error is the provider's word that it has no such response, not that it cannot retrieve any."""
    message = mapping(getattr(error, "body", None)).get("message")
    return getattr(error, "status_code", None) == 404 and response_id in str(message or error)
