"""Asks the provider what nobody else knows: the chain of a ``previous_response_id`` (``PROVIDER_LOOKUP``).

Beside the application's request and through its own client, un-instrumented: in a thread for ``OpenAI``, in a task for
``AsyncOpenAI``. The call goes out and comes back as if nobody asked; the answer comes when it comes.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

from otel_llm_sessions import forks
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.chain_walk import Walk
from otel_llm_sessions.openai.credential import Credential, scope_of_sent
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.resting import GONE, REST, Resting, finding
from otel_llm_sessions.openai.retrieval import Original, aretrieve, has_room, is_askable, retrieval, retrieve
from otel_llm_sessions.openai.switch import Switch
from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.asking import AskedStore
from otel_llm_sessions.stores.patience import in_task, within

TIME_LIMIT: Final = 2.0
"""Seconds that one walk may take."""

HEAD_START: Final = 0.005
"""Seconds by which the application's request comes first, so that an idle connection of the pool is its own."""

MAX_WALKS: Final = 16
"""How many walks there are at a time with one key."""

MAX_ALL_WALKS: Final = 64
"""How many walks there are at a time."""

LOOKUP: Final = "otel-llm-sessions-lookup"
"""What threads and tasks that ask the provider are called."""

_numbers = itertools.count()


class SharedWalk:
    """A walk, and the answer that all who asked for it get."""

    def __init__(self, walk: Walk, server: str, credential: Credential, key: tuple[bytes, str]) -> None:
        self.walk = walk
        self.server = server
        self.credential = credential
        self.scope = credential.scope
        """Server and key; None as long as only who sends a request knows the key."""
        self.key = key
        self.answer: Answer[Walk] = Answer()
        self.names: set[str | None] = set()
        """What the sessions of the calls are called if nobody knows better."""
        self.deadline = time.monotonic() + TIME_LIMIT + HEAD_START
        self.task: asyncio.Task[None] | None = None

    @property
    def options(self) -> Any:
        """The request for the response that is to be had next."""
        assert self.walk.asking is not None
        return retrieval(self.walk.asking, self.credential, self.seconds_left)

    @property
    def seconds_left(self) -> float:
        """How long the walk may still take."""
        return self.deadline - time.monotonic()

    @property
    def is_too_long(self) -> bool:
        """Whether the chain turned out to be too long for the time, or for so many steps."""
        is_short = self.walk.is_complete or (self.seconds_left > 0 and not self.walk.is_endless)
        return not is_short and self.walk.answered is not None

    @property
    def ways(self) -> set[str | None]:
        """By what later turns would walk the same way."""
        return {self.walk.answered, *self.names}

    @property
    def is_overdue(self) -> bool:
        """Whether the walk may never end: that of an event loop which was closed over it does not."""
        return self.seconds_left < -TIME_LIMIT


def walk_key(credential: Credential, previous_id: str) -> tuple[bytes, str]:
    """Return the name of the walk that calls join; one whose key is not known yet is nobody else's."""
    return (credential.scope if credential.scope is not None else b"%d" % next(_numbers)), previous_id


class ProviderLookup:
    """Walks chains at the provider, one walk for all calls that ask for the same response with the same key."""

    def __init__(self, store: AskedStore, switch: Switch, settings: Settings) -> None:
        """Args: what knows responses and is to remember them; what says when to stop; the settings."""
        self._store = store
        self._switch = switch
        self._settings = settings
        self._walks: dict[tuple[bytes, str], SharedWalk] = {}
        self._resting = Resting()
        self._lock = threading.RLock()
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Begin anew in a child process: threads and tasks stay with the parent."""
        self._lock = threading.RLock()
        self._walks = {}

    def ask(
        self, client: Any, options: Any, original: Original, request: Request, found: SessionLink | None
    ) -> Answer[Walk] | None:
        """Ask beside a request of a blocking client.

        Args:
            client: the application's client.
            options: openai's ``FinalRequestOptions`` of the request.
            original: how the client sends a request, un-instrumented.
            request: the request, read.
            found: what the store has of the response before it, if it is not sure of its session.

        Returns:
            The walk, when it is over; it is given on another thread. None if there is nothing to ask for, or nobody can
            be asked now: the provider rests, or too many walks are under way.
        """
        shared, is_new = self._join(client, options, request, found)
        if shared is None:
            return None
        if is_new:
            context = copy_context()
            thread = threading.Thread(
                target=lambda: context.run(self._walk, shared, client, original),
                name=LOOKUP,
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:  # no thread to spare, or the interpreter ends
                report("start a look-up at the provider", error)
                self._leave(shared)
                shared.answer.settle(shared.walk)
        return shared.answer

    def on_loop(self) -> Callable[..., Answer[Walk] | None] | None:
        """Return what asks as ``ask`` does, for a client on the loop that runs here; None if that is not asyncio's."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None

        def ask(
            client: Any, options: Any, original: Original, request: Request, found: SessionLink | None
        ) -> Answer[Walk] | None:
            shared, is_new = self._join(client, options, request, found)
            if shared is None:
                return None
            if is_new:
                self._begin_on(loop, shared, client, original)
            return shared.answer

        return ask

    def _begin_on(self, loop: asyncio.AbstractEventLoop, shared: SharedWalk, client: Any, original: Original) -> None:
        def begin() -> None:
            shared.task = in_task(loop, lambda: self._awalk(shared, client, original), LOOKUP)

        if asyncio._get_running_loop() is loop:
            return begin()
        try:
            loop.call_soon_threadsafe(begin)  # a store that was slow to answer, on its thread
        except RuntimeError:  # the loop has been closed
            self._leave(shared)
            shared.answer.settle(shared.walk)
        return None

    def _join(
        self, client: Any, options: Any, request: Request, found: SessionLink | None
    ) -> tuple[SharedWalk | None, bool]:
        """Return the walk that answers a request, and whether it is yet to be begun."""
        evidence, previous_id = request.evidence, request.evidence.previous_id
        if evidence.given is not None or previous_id is None or not request.match.route.is_turn:
            return None, False
        if not is_askable(previous_id):
            return None, False
        # What a turn's session is called for want of a better name: the response that would be asked for, or what was
        # made of its id. By it later turns know that nobody needs to be asked again.
        name = evidence.previous_name if found is None else found.session_id
        credential = _credential_of(client, options)
        if credential is None or self._rests(credential.scope, previous_id, name):
            return None, False
        key = walk_key(credential, previous_id)
        with self._lock:
            shared = self._walks.get(key)
            if shared is not None and shared.seconds_left <= 0:
                if not shared.is_overdue:
                    return None, False
                shared = None
            is_new = shared is None
            if shared is None:
                if not self._is_free(key[0]):
                    return None, False
                walk = Walk(previous_id, self._settings.metadata_keys, request.server.name, self._settings.key)
                self._walks[key] = shared = SharedWalk(walk, request.server.scope, credential, key)
            shared.names.add(name)
            return shared, is_new

    def _rests(self, scope: bytes | None, *names: str | None) -> bool:
        """Whether a provider is not to be asked with a key, or not for a response or where a session begins."""
        if scope is None:
            return False
        resting = self._resting
        return resting.provider_rests(scope) or any(
            name is not None and resting.response_rests(scope, name) for name in names
        )

    def _is_free(self, scope: bytes) -> bool:
        """Whether there may be one more walk, with this key; forgets those that may never end."""
        for key in [key for key, shared in self._walks.items() if shared.is_overdue]:
            del self._walks[key]
        same = sum(other == scope for other, _ in self._walks)
        return len(self._walks) < MAX_ALL_WALKS and same < MAX_WALKS

    def _leave(self, shared: SharedWalk) -> None:
        """Let nobody join the walk any more."""
        if shared.is_too_long:
            self._let_rest(shared, GONE, shared.ways)
        with self._lock:
            if self._walks.get(shared.key) is shared:
                del self._walks[shared.key]

    # --- the walk: the same twice, but for what waits -----------------------------------------------------------

    def _walk(self, shared: SharedWalk, client: Any, original: Original) -> None:
        walk = shared.walk
        attach(_suppressed())
        try:
            time.sleep(HEAD_START)
            if shared.scope is None:
                self._know(shared, client, client._prepare_options(shared.options))
            while walk.asking is not None:
                known = self._ask_store(shared)
                known.wait(shared.seconds_left)
                if self._is_known(walk, known):
                    continue
                if self._may_go_on(shared, client):
                    walk.take(retrieve(client, original, shared.options, shared.deadline))
                    self._answered(shared)
        except Exception as error:
            self._lost(shared, error, client)
        finally:
            self._end(shared)

    async def _awalk(self, shared: SharedWalk, client: Any, original: Original) -> None:
        walk = shared.walk
        attach(_suppressed())
        try:
            await asyncio.sleep(HEAD_START)
            if shared.scope is None:
                options = await within(shared.seconds_left, partial(client._prepare_options, shared.options))
                self._know(shared, client, options)
            while walk.asking is not None:
                known = self._ask_store(shared)
                await known.wait_on_loop(shared.seconds_left)
                if self._is_known(walk, known):
                    continue
                if self._may_go_on(shared, client):
                    ask = partial(aretrieve, client, original, shared.options)
                    walk.take(await within(shared.seconds_left, ask))
                    self._answered(shared)
        except Exception as error:
            self._lost(shared, error, client)
        finally:
            self._end(shared)

    def _end(self, shared: SharedWalk) -> None:
        """Tell all who asked, and remember the responses on the way."""
        self._leave(shared)
        shared.answer.settle(shared.walk)
        if self._switch.is_on:
            for record in shared.walk.records(shared.server):
                self._store.put_soon(*record)

    def _ask_store(self, shared: SharedWalk) -> Answer[list[SessionLink | None]]:
        assert shared.walk.asking is not None
        return self._store.ask((response_key(shared.walk.asking, shared.server),))

    @staticmethod
    def _is_known(walk: Walk, answer: Answer[list[SessionLink | None]]) -> bool:
        """Take in what the store has said in time of the next response; return whether that says anything."""
        link = answer.result()[0] if answer.is_done else None
        return link is not None and walk.know(link)

    def _know(self, shared: SharedWalk, client: Any, options: Any) -> None:
        """Take in the key that the application gives for a request; the walk may be over then."""
        shared.scope = scope_of_sent(client, client._build_request(options))
        if self._rests(shared.scope, shared.walk.previous_id, *shared.names):
            shared.walk.lose(gone=False)

    def _may_go_on(self, shared: SharedWalk, client: Any) -> bool:
        """Whether to retrieve one more response; else the walk is over."""
        walk, scope = shared.walk, shared.scope
        assert walk.asking is not None
        assert scope is not None
        if not is_askable(walk.asking) or self._rests(scope, walk.asking):
            self._give_up(shared, REST, gone=self._resting.is_gone(scope, walk.asking))
            return False
        if shared.seconds_left > 0 and self._switch.is_on and has_room(client):
            return True
        walk.lose(gone=False)
        return False

    def _give_up(self, shared: SharedWalk, seconds: float, *, gone: bool) -> None:
        """End the walk at a response that cannot be had, and let no later turn walk up to it again for a while."""
        walk = shared.walk
        walk.lose(gone=gone)
        named = walk.previous() if gone else None
        self._let_rest(shared, seconds, {named.session_id} if named is not None else shared.ways)

    def _let_rest(self, shared: SharedWalk, seconds: float, names: Iterable[str | None]) -> None:
        if shared.scope is not None:
            for name in set(names) - {None}:
                self._resting.let_response_rest(shared.scope, str(name), seconds)

    def _answered(self, shared: SharedWalk) -> None:
        if shared.scope is not None:
            self._resting.answered(shared.scope)

    def _lost(self, shared: SharedWalk, error: Exception, client: Any) -> None:
        """End the walk because the provider did not answer, or not with a response."""
        walk, scope = shared.walk, shared.scope
        asked, resting = walk.asking, self._resting
        if asked is None or scope is None:
            return walk.lose(gone=False)
        found = finding(error, asked, client, can_retrieve=resting.can_retrieve(scope))
        if found.blame == "response":
            seconds = GONE if found.is_lasting else REST
            resting.let_response_rest(scope, asked, seconds, is_gone=found.is_gone)
            return self._give_up(shared, seconds, gone=found.is_gone)
        if found.blame == "provider" and not shared.is_too_long:
            resting.let_provider_rest(scope)
        walk.lose(gone=False)


def _credential_of(client: Any, options: Any) -> Credential | None:
    """Return who asks; None of a client that is too odd to tell, for which nobody is asked."""
    try:
        return Credential(client, options)
    except Exception as error:
        report("tell whose key a request has", error)
        return None


def _suppressed() -> Context:
    """Return the context of a walk, whose thread or task has one of its own: what it does is nobody's span."""
    with suppress_instrumentation(), suppress_http_instrumentation():
        return get_current()
