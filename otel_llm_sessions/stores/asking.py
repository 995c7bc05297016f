"""Asks any store beside the call, also one that an application made after the protocol, which only answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from otel_llm_sessions.guard import is_applications, report
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.patience import in_task
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.stores.shared import DEFAULT_TIME_LIMIT

T = TypeVar("T")
U = TypeVar("U")

FEW = 32
"""How many tasks of loops that were closed over them are kept at most, beside twice as many as there are otherwise."""


@runtime_checkable
class AskedStore(Protocol):
    """What a call asks: `GuardedStore` and `MemoryStore` are such, and ``asked`` makes one of any other store.

    No failure of a store's is raised here: the answer then is that nothing is known, with ``is_known`` False.
    """

    @property
    def patience(self) -> float:
        """How long a call should wait for an answer, in seconds: 0 while the store is slow or does not answer."""
        ...

    def known(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        """Return what is known under each of ``keys`` without asking anybody who may take long."""
        ...

    @property
    def lateness(self) -> float:
        """How late an answer was a short while ago, in seconds: what others write may be as late. 0: none was."""
        ...

    def ask(self, keys: Sequence[str], within: float = 0.0) -> Answer[list[SessionLink | None]]:
        """Ask for the link of each of ``keys``, in order, None where it is unknown.

        Args:
            keys: what is asked for.
            within: seconds for which the caller may be held up; only for callers that may block.
        """
        ...

    def ask_and_put(self, keys: Sequence[str], record: Record) -> Answer[list[SessionLink | None]]:
        """As ``ask``, then ``put_soon``, in one round trip where there is one."""
        ...

    def ask_claim(self, key: str, within: float = 0.0) -> Answer[bool]:
        """Ask for a claim, which exactly one of all callers gets; ``within`` as in ``ask``."""
        ...

    def ask_put(self, keys: Sequence[str], link: SessionLink, within: float = 0.0) -> Answer[None]:
        """Have ``link`` remembered under each of ``keys``; ``within`` as in ``ask``."""
        ...

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``, and wait for nothing."""
        ...


def asked(store: SessionStore) -> AskedStore:
    """Return ``store`` as one that can be asked beside the call."""
    return store if isinstance(store, AskedStore) and _asks_itself(type(store)) else _Adapted(store)


_ASKED_BY = {
    "get_all": "ask",
    "aget_all": "ask",
    "claim": "ask_claim",
    "aclaim": "ask_claim",
    "put": "ask_put",
    "aput": "ask_put",
    "waits": "patience",
}
"""What the protocol has, by what is asked instead."""


def _asks_itself(kind: type) -> bool:
    """Whether no subclass has its own way to answer, which what asks the store would pass by."""
    return all(_depth(kind, asks) <= _depth(kind, answers) for answers, asks in _ASKED_BY.items())


def _depth(kind: type, name: str) -> int:
    return next((depth for depth, base in enumerate(kind.__mro__) if name in vars(base)), 0)


class _Adapted:
    """A store that answers its callers only.

    One that is asked on asyncio is asked by a task, which goes on when its caller waits no longer. Any other caller is
    held up for as long as the store takes, and finds the answer there.
    """

    lateness = 0.0
    """Nobody measures it."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._waits = getattr(store, "waits", True)
        self._tasks: set[asyncio.Task[Any]] = set()  # a loop alone does not keep them alive
        self._many = FEW
        """How many tasks there may be before those are looked for that will never end."""

    @property
    def patience(self) -> float:
        return DEFAULT_TIME_LIMIT if self._waits else 0.0

    def known(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        return [None] * len(keys)

    def ask(self, keys: Sequence[str], within: float = 0.0) -> Answer[list[SessionLink | None]]:
        store = self._store
        answer, cancel = self._asked(lambda: store.get_all(keys), lambda: store.aget_all(keys))

        def links(found: Answer[Sequence[SessionLink | None]]) -> list[SessionLink | None]:
            known = _or_else(found, None, "look a session up")
            return [None] * len(keys) if known is None else list(known)

        return answer.then(links, cancel)

    def ask_and_put(self, keys: Sequence[str], record: Record) -> Answer[list[SessionLink | None]]:
        answer = self.ask(keys)
        self.put_soon(*record)
        return answer

    def ask_claim(self, key: str, within: float = 0.0) -> Answer[bool]:
        store = self._store
        answer, cancel = self._asked(lambda: store.claim(key), lambda: store.aclaim(key))
        # A caller that is cancelled cancels the store's own method, which may take back what it gave.
        return answer.then(lambda got: bool(_or_else(got, False, "claim a session's root")), cancel)

    def ask_put(self, keys: Sequence[str], link: SessionLink, within: float = 0.0) -> Answer[None]:
        store = self._store
        answer, _ = self._asked(lambda: store.put(keys, link), lambda: store.aput(keys, link))
        return answer.then(lambda done: _or_else(done, None, "record a turn"))

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        put_soon = getattr(self._store, "put_soon", None)
        if put_soon is not None:
            put_soon(keys, link)
        else:
            self.ask_put(keys, link)

    def _asked(
        self, call: Callable[[], T], begin: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[Answer[T], Callable[[], object] | None]:
        """Return the answer, and what cancels the question."""
        answer: Answer[T] = Answer()
        try:
            if self._waits and _is_on_asyncio():
                return answer, self._begin(begin, answer)
            answer.settle(call())
        except Exception as fault:
            if is_applications(fault):
                raise
            answer.fail(fault)
        return answer, None

    def _begin(self, begin: Callable[[], Coroutine[Any, Any, T]], answer: Answer[T]) -> Callable[[], object]:
        task = in_task(asyncio.get_running_loop(), begin)
        self._keep(task)

        def settle(ended: asyncio.Future[T]) -> None:
            self._tasks.discard(ended)
            if ended.cancelled():
                return answer.fail(asyncio.CancelledError())
            fault = ended.exception()
            if fault is not None:
                return answer.fail(fault)
            answer.settle(ended.result())

        task.add_done_callback(settle)
        return task.cancel

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        if len(self._tasks) > self._many:
            self._tasks -= {task for task in self._tasks.copy() if task.get_loop().is_closed()}
            self._many = FEW + 2 * len(self._tasks)


def _or_else(answer: Answer[T], otherwise: U, what: str) -> T | U:
    """Return the answer, or ``otherwise`` where it is a failure of the store's, which is reported."""
    try:
        return answer.result()
    except asyncio.CancelledError:
        return otherwise
    except Exception as fault:
        report(what, fault)
        return otherwise


def _is_on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
