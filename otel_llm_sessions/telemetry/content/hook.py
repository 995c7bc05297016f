"""The application's say in what is recorded: it may change contents, or keep them back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from otel_llm_sessions.guard import report_unquoted
from otel_llm_sessions.telemetry.content.plain import Plain
from otel_llm_sessions.telemetry.content.values import Content, as_dict, from_dict

Function = Callable[[dict[str, Any]], Any]


def _keeps_back(_: dict[str, Any]) -> None:
    """Stand in for a hook that could not be loaded: nothing is recorded without it."""


class ContentHook:
    """The function that the setting ``CONTENT_HOOK`` names; loaded when it is first needed.

    Not before: its module may be the application's own, which is just being imported when the client is.
    """

    __slots__ = ("_function", "_named")

    def __init__(self, given: Function | str) -> None:
        """Args: the function, or ``module:function``."""
        self._named = given if isinstance(given, str) else None
        self._function: Function | None = None if isinstance(given, str) else given

    def applied(self, content: Content) -> Content | None:
        """Return what the application makes of a content; None if nothing is to be recorded.

        Where the hook fails in any way, that is None; an exception that ends the application goes on to it.

        Args:
            content: plain JSON of which the hook may do as it likes.
        """
        try:
            function = self._function or self._load()
            said = function(as_dict(content))
            return None if said is None else Plain().content(_content_of(said))
        except Exception as error:
            report_unquoted("have a content hook called", error)
            return None

    def _load(self) -> Function:
        function: Function = _keeps_back
        try:
            module, _, name = (self._named or "").partition(":")
            if not name:
                raise ValueError("not MODULE:FUNCTION")
            function = attrgetter(name)(importlib.import_module(module))
            if not callable(function):
                function = _keeps_back
                raise TypeError("not a function")
        except Exception as error:
            report_unquoted(f"load the content hook {self._named!r}", error)
        self._function = function
        return function


def _content_of(said: Any) -> Content:
    if not isinstance(said, dict):
        raise TypeError("a content hook returns a dict like the one it gets, or None")
    return from_dict(said)
