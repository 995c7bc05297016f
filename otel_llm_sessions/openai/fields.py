"""Fields of a reply, whatever it is made of: models, dicts (old clients), or what a server sent in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.sessions.names import id_of

_EMPTY: dict[str, Any] = {}


def field(value: Any, name: str) -> Any:
    """Return a field of a reply that may be a model, a dict (old clients) or anything else; None if it has none."""
    if type(value) is dict:
        return value.get(name)
    try:
        return value.__dict__[name]
    except (AttributeError, KeyError, TypeError) as error:
        pass_on(error)
        if isinstance(value, Mapping):
            return value.get(name)
        # Fields that the model does not know are in pydantic's extras, which only attribute access reads.
        return getattr(value, name, None)


def fields_of(value: Any, names: Iterable[str]) -> Mapping[str, Any]:
    """Return the fields of a reply by name: all that it has, or where that cannot be told those of ``names``."""
    if type(value) is dict:
        return value
    try:
        extra, fields = value.__pydantic_extra__, value.__dict__
    except AttributeError as error:
        pass_on(error)
        return {name: field(value, name) for name in names}
    # What the model does not know is in pydantic's extras.
    return {**extra, **fields} if extra else fields


class Fields:
    """Reads the same fields of many values, as ``field`` does; in one step of a model that knows them all.

    Example::

        choice = Fields("index", "finish_reason")
        index, reason = choice.of(reply.choices[0])
    """

    __slots__ = ("_get", "_names")

    def __init__(self, *names: str) -> None:
        """Read the fields under ``names``: two or more, which the newest client's models know."""
        self._names = names
        self._get: Callable[[Any], tuple[Any, ...]] = itemgetter(*names)

    def of(self, value: Any) -> tuple[Any, ...]:
        """Return the fields of a value, in order; None for each that it has not."""
        if type(value) is dict:
            return tuple(map(value.get, self._names))
        get = self._get
        try:
            return get(value.__dict__)
        except (AttributeError, KeyError, TypeError) as error:
            pass_on(error)
            return tuple(map(fields_of(value, self._names).get, self._names))


def extras_of(value: Any) -> Mapping[str, Any]:
    """Return the fields of a reply that its model does not know; all fields of a dict."""
    return value if type(value) is dict else getattr(value, "__pydantic_extra__", None) or _EMPTY


def conversation_id_in(conversation: Any) -> str | None:
    """Return the id of a conversation, as requests and responses name one: a string, or an object with an ``id``."""
    if conversation is None or isinstance(conversation, str):
        return id_of(conversation)
    return id_of(field(conversation, "id"))


def mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping; else an empty one (bytes, lists, ``omit``, None)."""
    if type(value) is dict:
        return value
    # Most often None, of which an ABC takes long to say that it is no mapping.
    return value if value is not None and isinstance(value, Mapping) else _EMPTY


def items_of(value: Any) -> Sequence[Any]:
    """Return ``value`` if it is a list or a tuple; else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def text(value: Any) -> str | None:
    """Return ``value`` as a plain string if it is a string with something in it, else None."""
    return (str.__str__(value) or None) if isinstance(value, str) else None
