"""Tells of a module that is imported once more: by plugin hosts and tests that clear ``sys.modules``, or a reload."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import get_ident
from types import ModuleType
from typing import Any

from otel_llm_sessions.guard import report

Hook = Callable[[ModuleType], None]


class _Finder:
    """Finds nothing itself: has a hook called after the module that the other finders find has been run."""

    def __init__(self, name: str, hook: Hook) -> None:
        self.name = name
        self._hook = hook
        self._asking: set[int] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if name != self.name or get_ident() in self._asking:
            return None
        self._asking.add(get_ident())
        try:
            # A module that is being reloaded is still there, with the spec that it was loaded by.
            spec = find_spec(name) if name not in sys.modules else None
            if spec is not None and spec.loader is not None:
                _hooked(spec.loader, self._hook)
            return spec
        except Exception as error:
            report("watch an import", error)
            return None
        finally:
            self._asking.discard(get_ident())


def _hooked(loader: Any, hook: Hook) -> None:
    run = loader.exec_module

    def run_once(module: ModuleType) -> None:
        loader.__dict__.pop("exec_module", None)
        run(module)
        hook(module)

    loader.exec_module = run_once


def watch_later_imports(name: str, hook: Hook) -> None:
    """Have ``hook`` called with the module of that name each time that it is imported anew; once per process."""
    if not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, hook))
