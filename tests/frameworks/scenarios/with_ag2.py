"""AG2: https://docs.ag2.ai (Quick start, Agents, Model configuration)."""

from __future__ import annotations

import asyncio
from typing import Any

from ag2 import Agent, tool
from ag2.config import OpenAIConfig, OpenAIResponsesConfig
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario, turns_of


def agent(config: Any) -> Agent:
    return Agent("assistant", prompt="You are a helpful assistant.", config=config, tools=[tool(get_weather)])


async def talk(config: Any) -> None:
    assistant, replies = agent(config), {}
    for person, text in interleaved():
        replies[person] = await replies.get(person, assistant).ask(text)


@scenario
async def chat() -> None:
    await talk(OpenAIConfig(model=MODEL))


@scenario
async def chat_streamed() -> None:
    await talk(OpenAIConfig(model=MODEL, streaming=True))


@scenario
async def responses() -> None:
    await talk(OpenAIResponsesConfig(model=MODEL))


@scenario
async def responses_streamed() -> None:
    await talk(OpenAIResponsesConfig(model=MODEL, streaming=True))


@scenario
async def parallel() -> None:
    assistant = agent(OpenAIConfig(model=MODEL))

    async def talk_of(person: str) -> None:
        reply: Any = assistant
        for text in turns_of(person):
            reply = await reply.ask(text)

    await asyncio.gather(*map(talk_of, PEOPLE))


if __name__ == "__main__":
    main()
