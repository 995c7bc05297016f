"""What the client can be asked, as a table, and how an application asks it: sync and async, plain and raw."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

MODEL = "gpt-4o-mini"
SESSION = "surface-1"


class Answer(BaseModel):
    """The structured output that `.parse()` asks for."""

    text: str


@dataclass(frozen=True)
class Client:
    """A client, and how to run what uses it."""

    kind: str
    openai: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    @property
    def provider(self) -> str:
        """The `gen_ai.provider.name` of its calls."""
        return "azure.ai.openai" if "Azure" in self.kind else "openai"


@dataclass(frozen=True)
class Method:
    """One way to use one method of the client."""

    name: str
    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    operation: str = "chat"
    api: str = "responses"
    gives: str = "reply"  # or "stream", or "manager" for what must be entered first
    parameter: str | None = None  # what a version may not know yet
    about: str | None = None  # the response it is called with: "stored" or "background"

    @property
    def is_turn(self) -> bool:
        return self.operation in ("chat", "compact")


def chat(name: str, path: str, gives: str = "reply", **arguments: Any) -> Method:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **arguments}
    asked["extra_headers"] = {"x-session-id": SESSION}
    return Method(name, path, asked, api="chat_completions", gives=gives)


def respond(name: str, path: str, gives: str = "reply", parameter: str | None = None, **arguments: Any) -> Method:
    return Method(name, path, {"model": MODEL, "input": "Hello", **arguments}, gives=gives, parameter=parameter)


def about(
    name: str, path: str, operation: str, gives: str = "reply", which: str = "stored", **arguments: Any
) -> Method:
    return Method(name, path, arguments, operation, gives=gives, about=which, parameter=next(iter(arguments), None))


USAGE = {"stream_options": {"include_usage": True}}
METHODS = (
    *(
        method
        for area in ("chat.completions", "beta.chat.completions")
        for method in (
            chat(f"{area}.create", f"{area}.create"),
            chat(f"{area}.create-streamed", f"{area}.create", "stream", stream=True),
            chat(f"{area}.create-streamed-usage", f"{area}.create", "stream", stream=True, **USAGE),
            chat(f"{area}.parse", f"{area}.parse", response_format=Answer),
            chat(f"{area}.stream", f"{area}.stream", "manager"),
            chat(f"{area}.stream-usage", f"{area}.stream", "manager", **USAGE),
        )
    ),
    respond("responses.parse", "responses.parse", text_format=Answer),
    respond("responses.stream", "responses.stream", "manager"),
    *(
        method
        for area in ("responses", "beta.responses")
        for method in (
            respond(f"{area}.create", f"{area}.create"),
            respond(f"{area}.create-streamed", f"{area}.create", "stream", stream=True),
            respond(f"{area}.create-background", f"{area}.create", parameter="background", background=True),
            about(f"{area}.retrieve", f"{area}.retrieve", "fetch_response"),
            about(f"{area}.retrieve-streamed", f"{area}.retrieve", "fetch_response", "stream", stream=True),
            about(
                f"{area}.retrieve-resumed",
                f"{area}.retrieve",
                "fetch_response",
                "stream",
                stream=True,
                starting_after=2,
            ),
            about(f"{area}.cancel", f"{area}.cancel", "cancel_response", which="background"),
            Method(f"{area}.compact", f"{area}.compact", {"model": MODEL, "input": "Hello"}, "compact"),
        )
    ),
)

VIEWS = {"direct": "", "with_options": "", "raw": "with_raw_response", "streaming": "with_streaming_response"}


def path_of(method: Method, view: str) -> str:
    """Where a method stands: ``responses.with_raw_response.create``."""
    area, _, name = method.path.rpartition(".")
    return ".".join(filter(None, (area, VIEWS[view], name)))


def names_of(method: Method, view: str) -> set[str]:
    """What the client must have for a method to be called in a view."""
    return {path_of(method, view)} | ({f"{method.path}({method.parameter})"} if method.parameter else set())


def surface() -> Iterator[tuple[Method, str]]:
    """Every method in every view; what `.stream()` returns has no raw form in any version."""
    for method in METHODS:
        yield from ((method, view) for view in VIEWS if method.gives != "manager" or not VIEWS[view])


def lacking(client: Any) -> set[str]:
    """The names of the surface that a client does not have."""
    return {name for method, view in surface() for name in names_of(method, view) if not has(client, name)}


def has(client: Any, name: str) -> bool:
    """Whether a client has a method, and the parameter in brackets; a method that is lacking is named alone."""
    path, _, parameter = name.rstrip(")").partition("(")
    try:
        found = attrgetter(path)(client)
    except AttributeError:
        return bool(parameter)
    return not parameter or parameter in inspect.signature(found).parameters


async def use(client: Any, method: Method, view: str, response_id: str) -> list[Any]:
    """Call a method as an application does and return every object that it gets to see."""
    if view == "with_options":
        client = client.with_options(timeout=20.0)
    call = attrgetter(path_of(method, view))(client)
    ids = (response_id,) if method.about else ()
    result = call(*ids, **method.arguments)
    if method.gives == "manager":
        return await within(result, events_of_manager)
    if view == "streaming":
        return await within(result, parsed)
    value = await settled(result)
    return await parsed(value) if view == "raw" else await pieces(value)


async def settled(value: Any) -> Any:
    """The value, awaited if the client is asynchronous."""
    return await value if inspect.isawaitable(value) else value


async def within(manager: Any, read: Callable[[Any], Any]) -> list[Any]:
    """What `read` finds inside a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            return await read(value)
    with manager as value:
        return await read(value)


async def parsed(response: Any) -> list[Any]:
    """A raw response and what it holds."""
    return [response, *await pieces(await settled(response.parse()))]


async def pieces(value: Any) -> list[Any]:
    """A reply alone; a stream with all that it brings."""
    if hasattr(value, "__aiter__") and hasattr(value, "close"):
        async with value:
            return [value, *[piece async for piece in value]]
    if hasattr(value, "__next__"):
        with value:
            return [value, *value]
    return [value]


async def events_of_manager(stream: Any) -> list[Any]:
    """The events of a `.stream()` helper and the whole reply that it puts together."""
    events = [event async for event in stream] if hasattr(stream, "__aiter__") else list(stream)
    final = getattr(stream, "get_final_completion", None) or stream.get_final_response
    return [stream, *events, await settled(final())]
