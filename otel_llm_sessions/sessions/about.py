"""What the application says of a session besides its id: whose it is, what it is called, and its tags."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otel_llm_sessions.semconv import LLM_SESSION_NAME, LLM_SESSION_TAGS, USER_ID
from otel_llm_sessions.sessions.texts import MAX_LENGTH, as_text, is_id, is_name, refuse

MAX_TAGS: Final = 16


class About(NamedTuple):
    """What is known of a session besides its id; each empty if the application said nothing."""

    name: str = ""
    user: str = ""
    tags: tuple[str, ...] = ()

    def over(self, before: About) -> About:
        """Return the same with what it does not say as ``before`` says it."""
        return About(self.name or before.name, self.user or before.user, self.tags or before.tags)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that say it on spans."""
        said = {LLM_SESSION_NAME: self.name, USER_ID: self.user, LLM_SESSION_TAGS: self.tags}
        return {attribute: value for attribute, value in said.items() if value}


NOTHING_SAID: Final = About()

MAX_TAG_BYTES: Final = MAX_TAGS * (MAX_LENGTH + 1)
"""Of the tags as they are kept; a character that is not of ASCII takes up to four."""


def tags_written(tags: tuple[str, ...]) -> bytes:
    """Return tags as a record keeps them, in lines: as many as there is room for, of those that a session can have."""
    data = b""
    for tag in filter(_is_tag, tags[:MAX_TAGS]):
        more = data + b"\n" + tag.encode() if data else tag.encode()
        data = more if len(more) <= MAX_TAG_BYTES else data
    return data


def tags_read(data: bytes) -> tuple[str, ...]:
    """Return the tags of a record, as far as sessions can have such.

    Raises:
        ValueError: they are no text.
    """
    return tuple(filter(_is_tag, data.decode().split("\n")))[:MAX_TAGS]


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and is_id(value)


class Anew(NamedTuple):
    """What a block sets anew of its session; None of what it keeps as it is around it, if that is the same session."""

    name: str | None = None
    user: str | None = None
    tags: tuple[str, ...] | None = None

    def over(self, before: About) -> About:
        """Return what is said inside the block, of what is said of its session around it."""
        name, user, tags = self
        return About(
            before.name if name is None else name,
            before.user if user is None else user,
            before.tags if tags is None else tags,
        )


NOTHING_ANEW: Final = Anew()


def said_anew(name: Any, user: Any, tags: Any) -> Anew:
    """Return what ``session(...)`` is told, checked.

    Args:
        name: what the session is called: a printable string of at most 256 characters.
        user: whose it is: such a string, or a number.
        tags: a list, tuple or set of at most 16 strings, each printable and of 1 to 256 characters.

    Raises:
        ValueError: one of them is something else; the message names it, its value, and what is allowed.
    """
    if name is not None and not is_name(name):
        refuse("name", name, f"a printable string of at most {MAX_LENGTH} characters")
    if user is not None and not (is_name(user) or is_id(as_text(user))):
        refuse("user", user, f"a printable string of at most {MAX_LENGTH} characters, or a number")
    # An enum's member too, as it reads.
    name, user = (None if value is None else as_text(value) for value in (name, user))
    return Anew(name, user, None if tags is None else _tags(tags))


def _tags(tags: Any) -> tuple[str, ...]:
    if isinstance(tags, (list, tuple, set, frozenset)) and all(map(_is_tag, tags)):
        each = dict.fromkeys(as_text(tag) for tag in (sorted(tags) if isinstance(tags, (set, frozenset)) else tags))
        if len(each) <= MAX_TAGS:
            return tuple(each)
    allowed = f"a list, tuple or set of at most {MAX_TAGS} printable strings of 1 to {MAX_LENGTH} characters each"
    refuse("tags", tags, allowed)
