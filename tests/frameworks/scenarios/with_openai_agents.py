"""openai-agents: https://openai.github.io/openai-agents-python/ (Results, Running agents, Sessions, Streaming,
Handoffs).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx2
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario, turns_of

set_tracing_disabled(True)  # OpenAI's own traces go to OpenAI
LOOPBACK = os.environ["OPENAI_BASE_URL"]


def agent(**options: Any) -> Agent[Any]:
    return Agent(
        name="Assistant",
        instructions="Reply very concisely.",
        tools=[function_tool(get_weather)],
        **{"model": MODEL, **options},
    )


def triage(**options: Any) -> Agent[Any]:
    """An agent that hands whoever asks for the weather over to another one, which asks a tool."""
    asks = ModelSettings(tool_choice="required")
    weather = Agent(
        name="Weather agent", tools=[function_tool(get_weather)], model_settings=asks, **{"model": MODEL, **options}
    )
    return Agent(name="Triage agent", handoffs=[weather], **{"model": MODEL, **options})


class OpenAIAtHome(httpx2.AsyncHTTPTransport):
    """Takes what is meant for OpenAI to the loopback server; only to OpenAI is a prompt cache key sent."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        there = httpx2.URL(LOOPBACK)
        request.url = request.url.copy_with(scheme=there.scheme, host=there.host, port=there.port)
        return await super().handle_async_request(request)


def at_openai() -> None:
    """Have agents use a client whose base URL is OpenAI's."""
    http_client = DefaultAsyncHttpxClient(transport=OpenAIAtHome())
    client = AsyncOpenAI(base_url="https://api.openai.com/v1", http_client=http_client)
    set_default_openai_client(client, use_for_tracing=False)


@scenario
async def previous_response_id() -> None:
    assistant, last = agent(), dict.fromkeys(PEOPLE)
    for person, text in interleaved():
        result = await Runner.run(assistant, text, previous_response_id=last[person])
        last[person] = result.last_response_id


@scenario
async def auto_previous_response_id() -> None:
    assistant, last = agent(), dict.fromkeys(PEOPLE)
    for person, text in interleaved():
        result = await Runner.run(assistant, text, previous_response_id=last[person], auto_previous_response_id=True)
        last[person] = result.last_response_id


@scenario
async def conversation_id() -> None:
    client = AsyncOpenAI()
    assistant = agent()
    conversations = {person: await client.conversations.create() for person in PEOPLE}
    for person, text in interleaved():
        await Runner.run(assistant, text, conversation_id=conversations[person].id)


@scenario
async def to_input_list() -> None:
    assistant, said = agent(), {person: [] for person in PEOPLE}
    for person, text in interleaved():
        result = await Runner.run(assistant, [*said[person], {"role": "user", "content": text}])
        said[person] = result.to_input_list()


@scenario
async def sqlite_session() -> None:
    assistant = agent()
    sessions = {person: SQLiteSession(f"conversation_{person}") for person in PEOPLE}
    for person, text in interleaved():
        await Runner.run(assistant, text, session=sessions[person])


@scenario
async def sqlite_session_streamed() -> None:
    assistant = agent()
    sessions = {person: SQLiteSession(f"conversation_{person}") for person in PEOPLE}
    for person, text in interleaved():
        result = Runner.run_streamed(assistant, text, session=sessions[person])
        async for _ in result.stream_events():
            pass


@scenario
def sqlite_session_sync() -> None:
    assistant = agent()
    sessions = {person: SQLiteSession(f"conversation_{person}") for person in PEOPLE}
    for person, text in interleaved():
        Runner.run_sync(assistant, text, session=sessions[person])


@scenario
async def conversations_session() -> None:
    assistant = agent()
    sessions = {person: OpenAIConversationsSession() for person in PEOPLE}
    for person, text in interleaved():
        await Runner.run(assistant, text, session=sessions[person])


@scenario
async def conversations_session_streamed() -> None:
    assistant = agent()
    sessions = {person: OpenAIConversationsSession() for person in PEOPLE}
    for person, text in interleaved():
        async for _ in Runner.run_streamed(assistant, text, session=sessions[person]).stream_events():
            pass


@scenario
async def previous_response_id_at_openai() -> None:
    at_openai()
    await previous_response_id()


@scenario
async def sqlite_session_at_openai() -> None:
    at_openai()
    await sqlite_session()


@scenario
async def conversations_session_at_openai() -> None:
    at_openai()
    await conversations_session()


@scenario
async def chat_model() -> None:
    assistant = agent(model=OpenAIChatCompletionsModel(model=MODEL, openai_client=AsyncOpenAI()))
    sessions = {person: SQLiteSession(f"conversation_{person}") for person in PEOPLE}
    for person, text in interleaved():
        await Runner.run(assistant, text, session=sessions[person])


@scenario
async def chat_model_streamed() -> None:
    assistant = agent(model=OpenAIChatCompletionsModel(model=MODEL, openai_client=AsyncOpenAI()))
    said = {person: [] for person in PEOPLE}
    for person, text in interleaved():
        result = Runner.run_streamed(assistant, [*said[person], {"role": "user", "content": text}])
        async for _ in result.stream_events():
            pass
        said[person] = result.to_input_list()


@scenario
async def parallel() -> None:
    assistant = agent()

    async def talk(person: str) -> None:
        last = None
        for text in turns_of(person):
            result = await Runner.run(assistant, text, previous_response_id=last)
            last = result.last_response_id

    await asyncio.gather(*map(talk, PEOPLE))


@scenario
async def parallel_streamed() -> None:
    assistant = agent()

    async def talk(person: str) -> None:
        session = SQLiteSession(f"conversation_{person}")
        for text in turns_of(person):
            result = Runner.run_streamed(assistant, text, session=session)
            async for _ in result.stream_events():
                pass

    await asyncio.gather(*map(talk, PEOPLE))


@scenario
async def handoff() -> None:
    agent, sessions = triage(), {person: SQLiteSession(f"conversation_{person}") for person in PEOPLE}
    for person, text in interleaved():
        await Runner.run(agent, text, session=sessions[person])


@scenario
async def handoff_previous_response_id() -> None:
    agent, last = triage(), dict.fromkeys(PEOPLE)
    for person, text in interleaved():
        result = await Runner.run(agent, text, previous_response_id=last[person], auto_previous_response_id=True)
        last[person] = result.last_response_id


@scenario
async def handoff_chat_model() -> None:
    agent = triage(model=OpenAIChatCompletionsModel(model=MODEL, openai_client=AsyncOpenAI()))
    said = {person: [] for person in PEOPLE}
    for person, text in interleaved():
        result = await Runner.run(agent, [*said[person], {"role": "user", "content": text}])
        said[person] = result.to_input_list()


@scenario
async def handoff_parallel_streamed() -> None:
    agent = triage()

    async def talk(person: str) -> None:
        session = SQLiteSession(f"conversation_{person}")
        for text in turns_of(person):
            result = Runner.run_streamed(agent, text, session=session)
            async for _ in result.stream_events():
                pass

    await asyncio.gather(*map(talk, PEOPLE))


if __name__ == "__main__":
    main()
