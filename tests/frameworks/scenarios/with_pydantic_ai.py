"""pydantic-ai: https://ai.pydantic.dev (Agents, Messages and chat history, OpenAI, Debugging and monitoring)."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModelSettings
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario, turns_of

CHAT, RESPONSES = f"openai-chat:{MODEL}", f"openai-responses:{MODEL}"


def agent(model: str, **options: Any) -> Agent[None, str]:
    return Agent(model, tools=[get_weather], **options)


def talk_sync(assistant: Agent[None, str]) -> None:
    history: dict[str, Any] = {}
    for person, text in interleaved():
        result = assistant.run_sync(text, message_history=history.get(person))
        history[person] = result.all_messages()


async def talk_streamed(assistant: Agent[None, str]) -> None:
    history: dict[str, Any] = {}
    for person, text in interleaved():
        async with assistant.run_stream(text, message_history=history.get(person)) as result:
            async for _ in result.stream_text():
                pass
            history[person] = result.all_messages()


@scenario
def chat() -> None:
    talk_sync(agent(CHAT))


@scenario
async def chat_streamed() -> None:
    await talk_streamed(agent(CHAT))


@scenario
def chat_instrumented() -> None:
    Agent.instrument_all()
    talk_sync(agent(CHAT))


@scenario
def responses() -> None:
    talk_sync(agent(RESPONSES))


@scenario
async def responses_streamed() -> None:
    await talk_streamed(agent(RESPONSES))


@scenario
async def responses_instrumented() -> None:
    Agent.instrument_all()
    await talk_streamed(agent(RESPONSES))


@scenario
def previous_response_id() -> None:
    talk_sync(agent(RESPONSES, model_settings=OpenAIResponsesModelSettings(openai_previous_response_id="auto")))


@scenario
async def parallel() -> None:
    assistant = agent(RESPONSES)

    async def talk(person: str) -> None:
        history = None
        for text in turns_of(person):
            result = await assistant.run(text, message_history=history)
            history = result.all_messages()

    await asyncio.gather(*map(talk, PEOPLE))


if __name__ == "__main__":
    main()
