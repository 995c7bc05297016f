"""What ``@session(...)`` makes of a function: each call of it runs inside a session, and so does what a call returns.

A generator, a coroutine or a context manager runs after the call that made it. Each is inside while it runs, and only
then.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Protocol

from otel_llm_sessions.steps import Door, Steps


class Block(Door, Protocol):
    """A ``session(...)`` of one call."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *exception: Any) -> None: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *exception: Any) -> None: ...


Function = Callable[..., Any]
Begin = Callable[[], Block]
"""Begins a call: returns its block, which is not entered yet."""


def decorated(function: Any, begin: Begin) -> Any:
    """Return ``function`` so that each call of it runs inside the block that ``begin`` returns.

    Raises:
        TypeError: ``function`` is a class, or cannot be called.
    """
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(decorated(function.__func__, begin))
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"session(...) decorates functions and objects that can be called, not {function!r}")
    called = type(function).__call__  # of an object that is called, what is called; frameworks look there, too
    for is_one, decorate in _KINDS:
        if is_one(function) or is_one(called):
            return decorate(function, begin, function)
    return _plain(function, begin)


def _plain(function: Function, begin: Begin) -> Function:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        block = begin()
        with block:
            result = function(*args, **kwargs)
        return _kept_inside(result, block, functools.partial(function, *args, **kwargs))

    return inside


def _coroutine(function: Function, begin: Begin, like: Any) -> Function:
    @functools.wraps(like)
    async def inside(*args: Any, **kwargs: Any) -> Any:
        block = begin()
        async with block:
            result = await function(*args, **kwargs)
        return _kept_inside(result, block, functools.partial(function, *args, **kwargs))

    return inside


def _generator(function: Function, begin: Begin, like: Any) -> Function:
    @functools.wraps(like)
    def inside(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps, generator = Steps(begin()), function(*args, **kwargs)
        step: Callable[[Any], Any] = generator.send
        value: Any = None
        while True:
            outside = steps.enter()
            try:
                item = step(value)
            except StopIteration as stop:
                return stop.value
            finally:
                value = None  # an exception that was thrown in must not be kept by the frame that it passes
                steps.leave(outside)
            step = generator.send
            try:
                value = yield item
            except BaseException as error:  # GeneratorExit too: thrown in, it does what close() does
                step, value = generator.throw, error

    return types.coroutine(inside) if _is_awaitable(like) else inside


def _is_awaitable(generator: Any) -> bool:
    code = getattr(generator, "gi_code", None) or getattr(generator, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _async_generator(function: Function, begin: Begin, like: Any) -> Function:
    @functools.wraps(like)
    async def inside(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps, generator = Steps(begin()), function(*args, **kwargs)
        step: Callable[[Any], Any] = functools.partial(_first_step, generator)
        value: Any = None
        while True:
            outside = await steps.aenter()
            is_thrown_away, is_closing = False, isinstance(value, GeneratorExit)
            try:
                item = await step(value)
            except StopAsyncIteration:
                return
            except GeneratorExit:
                is_thrown_away = not is_closing
                raise
            finally:
                value = None
                steps.leave(outside, is_thrown_away=is_thrown_away)
            step = generator.asend
            try:
                value = yield item
            except BaseException as error:
                step, value = generator.athrow, error

    return inside


def _first_step(generator: AsyncGenerator[Any, Any], value: None) -> Any:
    # The event loop closes what is abandoned, and all at its end: the one that it knows, which closes the other.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(value)
    finally:
        sys.set_asyncgen_hooks(*hooks)


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Function, Begin, Any], Function]], ...] = (
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isgeneratorfunction, _generator),
)

_RUNNING_LATER: tuple[tuple[type, Callable[[Function, Begin, Any], Function]], ...] = (
    (Coroutine, _coroutine),
    (Generator, _generator),
    (AsyncGenerator, _async_generator),
)


def _kept_inside(result: Any, block: Block, again: Callable[[], Any]) -> Any:
    """Return what a call returned, inside the call's block while it runs.

    Args:
        result: what the call returned.
        block: the call's block, which has been left.
        again: makes the same call again.
    """
    for kind, decorate in _RUNNING_LATER:
        if isinstance(result, kind):
            return decorate(lambda: result, lambda: block, result)()
    around = _AROUND.get(type(result))
    return result if around is None else around(block, [result], again)()


def _around(block: Block, made: list[Any], again: Callable[[], Any]) -> Callable[[], Any]:
    # contextlib makes a context manager anew where it is used as a decorator.
    @contextlib.contextmanager
    def inside() -> Iterator[Any]:
        with block, made.pop() if made else again() as value:
            yield value

    return inside


def _async_around(block: Block, made: list[Any], again: Callable[[], Any]) -> Callable[[], Any]:
    @contextlib.asynccontextmanager
    async def inside() -> AsyncIterator[Any]:
        async with block, made.pop() if made else again() as value:
            yield value

    return inside


_AROUND: dict[type, Callable[[Block, list[Any], Callable[[], Any]], Callable[[], Any]]] = {
    type(contextlib.contextmanager(lambda: iter(()))()): _around,
    type(contextlib.asynccontextmanager(_async_around)(None, [], list)): _async_around,  # type: ignore[arg-type]
}
"""By the types of contextlib's own: whatever else can be entered (a file, a reply that streams) is a result."""
