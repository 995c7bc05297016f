"""What the roots of session traces are called."""

from __future__ import annotations

import re
from typing import Final

ROOT_NAME: Final = "session"
"""A root's name without anything added; a sampler is asked by this one (see ``Roots``)."""

CONTINUED: Final = " continued"
"""What the names of later parts end with, so that the list of a backend shows one ``session`` row per session."""

UNNAMED_ROOT_NAME: Final = "no session"
"""Name of the root above a first call that failed before it had an id."""

DEFAULT_TEMPLATE: Final = "session {name}"

MAX_TEMPLATE: Final = 256

_PLACEHOLDER = re.compile(r"( *)\{(name|id)\}( *)")


def checked_template(value: object) -> str:
    """Return ``value`` if roots can be named by it.

    Raises:
        ValueError: it is no printable text of at most 256 characters, or has other placeholders than ``{name}`` and
            ``{id}``.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEMPLATE:
        raise ValueError
    if set(_PLACEHOLDER.sub("", value)) & set("{}"):
        raise ValueError
    return value


class RootNames:
    """Names roots by a template."""

    def __init__(self, template: str = DEFAULT_TEMPLATE) -> None:
        """Args: text in which ``{name}`` and ``{id}`` stand for the session's."""
        self._template = template
        self._needs_id = "{id}" in template
        self._without = _filled(template, {})

    def name_of(self, session_id: str, name: str, part: int) -> str:
        """Return the name of the root of one part of a session.

        Args:
            session_id: the session.
            name: the session's name; empty if the application gave it none.
            part: 1, 2, …
        """
        if not name and not self._needs_id:
            return self._without if part == 1 else part_name(self._without, part)
        return part_name(_filled(self._template, {"name": name, "id": session_id}), part)


def part_name(name: str, part: int) -> str:
    """Return the name of a part whose session's root is called ``name``."""
    return name + CONTINUED if part > 1 else name


def _filled(template: str, values: dict[str, str]) -> str:
    def fill(found: re.Match[str]) -> str:
        before, placeholder, after = found.groups()
        if value := values.get(placeholder):
            return before + value + after
        # It goes with the blanks around it; one stays between words that it stood between.
        return " " if before and after else ""

    return _PLACEHOLDER.sub(fill, template).strip() or ROOT_NAME
