"""Microsoft's agent-framework: https://learn.microsoft.com/agent-framework (Agents, Multi-turn conversations)."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario, turns_of


def agent(client: Any, **options: Any) -> Agent:
    return Agent(client=client, instructions="You are a helpful assistant.", tools=[get_weather], **options)


async def talk(assistant: Agent) -> None:
    sessions = {person: assistant.create_session() for person in PEOPLE}
    for person, text in interleaved():
        await assistant.run(text, session=sessions[person])


async def talk_streamed(assistant: Agent) -> None:
    sessions = {person: assistant.create_session() for person in PEOPLE}
    for person, text in interleaved():
        async for _ in assistant.run(text, session=sessions[person], stream=True):
            pass


@scenario
async def chat() -> None:
    await talk(agent(OpenAIChatCompletionClient(model=MODEL)))


@scenario
async def chat_streamed() -> None:
    await talk_streamed(agent(OpenAIChatCompletionClient(model=MODEL)))


@scenario
async def responses() -> None:
    await talk(agent(OpenAIChatClient(model=MODEL)))


@scenario
async def responses_streamed() -> None:
    await talk_streamed(agent(OpenAIChatClient(model=MODEL)))


@scenario
async def responses_not_stored() -> None:
    await talk(agent(OpenAIChatClient(model=MODEL), default_options={"store": False}))


@scenario
async def parallel() -> None:
    assistant = agent(OpenAIChatClient(model=MODEL))

    async def talk_of(person: str) -> None:
        session = assistant.create_session()
        for text in turns_of(person):
            await assistant.run(text, session=session)

    await asyncio.gather(*map(talk_of, PEOPLE))


if __name__ == "__main__":
    main()
