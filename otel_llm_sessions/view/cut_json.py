"""JSON that was cut off, read as far as it goes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

TOKEN: Final = re.compile(r'[\[\]{}:,]|"[^"\\]*(?:\\.[^"\\]*)*("?)|[^\s\[\]{}:,"]+', re.DOTALL)
HALF_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")
HALF_PAIR: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
DEEPEST: Final = 100


def read_beginning(text: str) -> Any:
    """Return the values that a text begins with which was JSON before it was cut off; None if there are none.

    A text that breaks off is kept as far as it goes; a key without a value and what may be half a number are not.

    Example::

        read_beginning('[{"role": "user", "content": "Where is')  # [{"role": "user", "content": "Where is"}]
    """
    built = _Built()
    for token in TOKEN.finditer(text):
        said, is_last = token[0], token.end() == len(text)
        if said[0] == '"':
            is_whole = bool(token[1])
            is_right = built.take_text(_text(said, is_whole), is_whole)
        elif said in ("{", "["):
            is_right = built.open({} if said == "{" else [])
        elif said in ("}", "]"):
            is_right = built.close()
        else:
            is_right = said in (":", ",") or (not is_last and built.take_literal(said))
        if not is_right:
            break
    return built.all


class _Built:
    """The values so far."""

    def __init__(self) -> None:
        self.all: Any = None
        self._open: list[tuple[Any, list[str]]] = []
        """What has not been closed, each with the key whose value is next."""

    def take_text(self, text: str | None, is_whole: bool) -> bool:
        if text is None or not self._open:
            return False
        within, key = self._open[-1]
        if isinstance(within, dict) and not key:
            key.append(text)
            return is_whole
        return self._take(text) and is_whole

    def take_literal(self, said: str) -> bool:
        try:
            return self._take(json.loads(said))
        except ValueError:
            return False

    def open(self, value: Any) -> bool:
        if self.all is None:
            self.all = value
        elif not self._take(value):
            return False
        self._open.append((value, []))
        return len(self._open) <= DEEPEST

    def close(self) -> bool:
        if self._open:
            self._open.pop()
        return bool(self._open)

    def _take(self, value: Any) -> bool:
        if not self._open:
            return False
        within, key = self._open[-1]
        if isinstance(within, list):
            within.append(value)
        elif not key:
            return False
        else:
            within[key.pop()] = value
        return True


def _text(said: str, is_whole: bool) -> str | None:
    if not is_whole:
        said = HALF_PAIR.sub("", HALF_ESCAPE.sub("", said)) + '"'
    try:
        text: str = json.loads(said, strict=False)
    except ValueError:
        return None
    return text
