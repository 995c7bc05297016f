"""What a request says as a conversation: its messages or items, in the form in which they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import fields_of
from otel_llm_sessions.openai.message import (
    ASSISTANT,
    Form,
    Odd,
    form_of,
    form_of_item,
    plain_forms,
    plain_items,
    says_something,
)
from otel_llm_sessions.openai.words.media import HOLDERS

FIELD: Final = {"chat_completions": "messages", "responses": "input"}
"""Where a request has its conversation, by API."""

BINARY: Final = 16 * 1024
"""Characters of an image, a file or a sound from which on some of them stand for all: only type and size are kept."""

_SAMPLES: Final = 16
_SAMPLE: Final = 256

ODD: Final = (Odd, AttributeError, TypeError, ValueError, RecursionError)
"""What is raised where nobody can say whether a message is the same as another."""


class Talk(NamedTuple):
    """A conversation as a request sends it."""

    forms: Sequence[Form]
    """What each message says."""
    ends: Sequence[int]
    """Where in the request each message ends."""

    def end(self, count: int) -> int:
        """Return where in the request the first ``count`` messages end."""
        return self.ends[count - 1] if count else 0


def talk_of(api: str, body: Mapping[str, Any]) -> Talk | None:
    """Return the conversation that a request sends; None if it cannot be told.

    Args:
        api: the API that is called.
        body: the request's JSON body.
    """
    said = body.get(FIELD[api])
    try:
        if isinstance(said, str):
            said = ({"role": "user", "content": said},)
        if not isinstance(said, (list, tuple)):
            return None if said else _NOTHING
        return _walked(said, plain_items, form_of_item) if api == "responses" else _walked(said, plain_forms, form_of)
    except ODD as error:
        pass_on(error)
        return None


_NOTHING: Final = Talk((), ())


def _walked(
    messages: Sequence[Any],
    at_a_glance: Callable[[Sequence[Any]], list[Form | None]],
    form_of: Callable[[Any], Form | None],
) -> Talk:
    """Return the conversation that messages are; what clients may leave out belongs to what stands before it."""
    glanced: list[Any] = at_a_glance(messages)
    if all(glanced):
        return Talk(glanced, range(1, len(glanced) + 1))
    forms: list[Form] = []
    ends: list[int] = []
    for place, glance in enumerate(glanced, 1):
        form = glance or form_of(_shortened(messages[place - 1]))  # where more than a glance is needed
        if form is not None:
            forms.append(form)
            ends.append(place)
        elif ends:
            ends[-1] = place
    return Talk(forms, ends)


def forms_replied(api: str, replied: Sequence[Any]) -> list[Form] | None:
    """Return what a reply says, as the next request sends it back; None if that cannot be told.

    Args:
        api: the API that was called.
        replied: the messages of a chat reply, one for each of its choices; the output items of a response.
    """
    try:
        if api == "responses":
            items = (form_of_item(_shortened(item)) for item in replied)
            return [form for form in items if form is not None]
        if len(replied) > 1:  # of several choices nobody can say which one will be sent back
            return None
        messages = (form_of(_shortened(message), ASSISTANT) for message in replied)
        return [form for form in messages if says_something(form)]
    except ODD as error:
        pass_on(error)
        return None


# --- images, files, sounds --------------------------------------------------------------------------------------


def _may_be_long(message: Any) -> bool:
    """Whether a message or an item may hold an image, a file or a sound."""
    if type(message) is not dict:
        return False
    content = message.get("content")
    if type(content) is str:
        return False
    if type(content) is list:
        return any(type(part) is dict and part.get("type") not in _TEXTS for part in content)
    return content is None and (type(message.get("result")) is str or type(message.get("output")) in (list, dict))


def _shortened(message: Any) -> Any:
    """Return a message in which a few characters stand for each image, file and sound: to read all takes long."""
    said = fields_of(message, ()) if hasattr(message, "__pydantic_fields_set__") else message
    if not _may_be_long(said):
        return message
    return {name: _brief(value, name) if name in _OF_MESSAGES else value for name, value in said.items()}


_TEXTS: Final = ("text", "input_text", "output_text", "refusal")
_OF_MESSAGES: Final = frozenset({"content", "output", "result"})
_HOLD: Final = HOLDERS | {"result"}


def _brief(value: Any, name: str) -> Any:
    if type(value) is list:
        return [_brief(part, name) for part in value]
    if type(value) is dict:
        return {name: _brief(held, name) if name in _HOLD else held for name, held in value.items()}
    if type(value) is str and len(value) > BINARY and name in _HOLD:
        step = len(value) // _SAMPLES
        samples = [value[start : start + _SAMPLE] for start in range(0, len(value), step)]
        return [len(value), *samples, value[-_SAMPLE:]]
    return value
