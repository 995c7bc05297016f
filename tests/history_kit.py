"""Conversations that an application keeps itself and sends whole with every call: all that ties their calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from loopback_client import MODEL
from openai import AsyncOpenAI


class Talk:
    """One conversation, as an application keeps it."""

    def __init__(self, api: Any, *messages: Any, way: str = "stream=False", back: Callable[[Any], Any] | None = None):
        self.api = api
        self.messages: list[Any] = list(messages)
        self.ask = WAYS[way]
        self.back = back or (lambda message: message)

    def say(self, text: str, **arguments: Any) -> Any:
        """One turn: what the user says, and what the model replies."""
        self.messages.append({"role": "user", "content": text})
        message = self.asked(**arguments)
        self.messages.append(self.back(message))
        return message

    def asked(self, **arguments: Any) -> Any:
        """The reply to the conversation so far."""
        return self.ask(self.api, {"model": MODEL, "messages": self.messages, **arguments})


def plain(api: Any, arguments: dict[str, Any]) -> Any:
    return api.chat(**arguments).choices[0].message


def streamed(api: Any, arguments: dict[str, Any]) -> Any:
    """What an application puts together of a stream."""
    texts, calls = [], dict[int, dict[str, Any]]()
    for chunk in api.read(api.chat(**arguments, stream=True)):
        for choice in chunk.choices:
            texts.append(choice.delta.content or "")
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, {"type": "function", "function": {"name": "", "arguments": ""}})
                known["id"] = call.id or known["id"]
                known["function"]["name"] += call.function.name or ""
                known["function"]["arguments"] += call.function.arguments or ""
    return {"role": "assistant", "content": "".join(texts), **({"tool_calls": [*calls.values()]} if calls else {})}


def raw(api: Any, arguments: dict[str, Any]) -> Any:
    reply = api.finish(api.client.chat.completions.with_raw_response.create(**arguments))
    return reply.parse().choices[0].message


def parsed(api: Any, arguments: dict[str, Any]) -> Any:
    completions = api.client.chat.completions
    parse = getattr(completions, "parse", None) or api.client.beta.chat.completions.parse
    return api.finish(parse(**arguments)).choices[0].message


def read_by_the_application(api: Any, arguments: dict[str, Any]) -> Any:
    manager = api.client.chat.completions.with_streaming_response.create(**arguments)
    if not isinstance(api.client, AsyncOpenAI):
        with manager as reply:
            return json.loads(reply.read())["choices"][0]["message"]

    async def read() -> Any:
        async with manager as reply:
            return json.loads(await reply.read())["choices"][0]["message"]

    return api.finish(read())


def helped(api: Any, arguments: dict[str, Any]) -> Any:
    """The client's own helper puts the stream together."""
    completions = getattr(api.client.chat.completions, "stream", None) or api.client.beta.chat.completions.stream
    if not isinstance(api.client, AsyncOpenAI):
        with completions(**arguments) as stream:
            return stream.get_final_completion().choices[0].message

    async def read() -> Any:
        async with completions(**arguments) as stream:
            return (await stream.get_final_completion()).choices[0].message

    return api.finish(read())


WAYS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "stream=False": plain,
    "stream=True": streamed,
    "with_raw_response": raw,
    "with_streaming_response": read_by_the_application,
    "parse": parsed,
    "stream()": helped,
}
