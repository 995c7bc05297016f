"""Functions of others that are wrapped for a while, and put back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import wrapt

from otel_llm_sessions import forks


def inherited(owner: type, name: str) -> Callable[..., Any]:
    """Return a method that does what a class inherits under a name; for who is about to stand in front of that.

    What that is, is found when it is called, as it would be without us: somebody may have patched the class that has
    it (a test its mock), or have inherited from another class in between.
    """
    usual = getattr(owner, name)

    @functools.wraps(usual)
    def found(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, owner):  # of a class that has borrowed the method
            return usual(self, *args, **kwargs)
        return getattr(super(owner, self), name)(*args, **kwargs)

    return found


class Patches:
    """What one module has wrapped."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self._wrapped: dict[tuple[Any, str], tuple[Any, Any]] = {}
        """By owner (a class or a module) and name: what the owner had itself, None if it inherits; and the wrapper."""

    def __bool__(self) -> bool:
        return bool(self._wrapped)

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """Wrap a function, unless it is; see ``wrapt.wrap_function_wrapper``."""
        if (owner, name) in self._wrapped:
            return
        with self._lock.held:
            if (owner, name) not in self._wrapped:
                own = vars(owner).get(name)
                if own is None:
                    setattr(owner, name, inherited(owner, name))
                wrapt.wrap_function_wrapper(owner, name, wrapper)
                self._wrapped[owner, name] = own, vars(owner)[name]

    def undo(self) -> None:
        """Take the wrappers off again; one that somebody has wrapped since stays, and has to pass calls through."""
        with self._lock.held:
            for (owner, name), (own, wrapper) in self._wrapped.items():
                if vars(owner).get(name) is not wrapper:
                    continue
                if own is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)
            self._wrapped.clear()
