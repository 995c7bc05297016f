"""LlamaIndex: https://docs.llamaindex.ai (Agents, Memory, Streaming, OpenAI Responses LLM)."""

from __future__ import annotations

from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import Memory
from llama_index.llms.openai import OpenAI, OpenAIResponses
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario


def agent(llm: Any, **options: Any) -> FunctionAgent:
    return FunctionAgent(tools=[get_weather], llm=llm, system_prompt="You are a helpful assistant.", **options)


async def talk(assistants: dict[str, FunctionAgent]) -> None:
    # A Context does not keep what was said: llama-index-workflows 2.26 leaves its memory out between two runs.
    memories = {person: Memory.from_defaults(session_id=person) for person in PEOPLE}
    for person, text in interleaved():
        handler = assistants[person].run(text, memory=memories[person])
        async for _ in handler.stream_events():
            pass
        await handler


@scenario
async def chat_streamed() -> None:
    await talk(dict.fromkeys(PEOPLE, agent(OpenAI(model=MODEL))))


@scenario
async def chat() -> None:
    await talk(dict.fromkeys(PEOPLE, agent(OpenAI(model=MODEL), streaming=False)))


@scenario
async def responses_streamed() -> None:
    await talk(dict.fromkeys(PEOPLE, agent(OpenAIResponses(model=MODEL))))


@scenario
async def responses() -> None:
    await talk(dict.fromkeys(PEOPLE, agent(OpenAIResponses(model=MODEL), streaming=False)))


@scenario
async def track_previous_responses() -> None:
    # The model remembers the response: each conversation has one of its own.
    await talk(
        {
            person: agent(OpenAIResponses(model=MODEL, track_previous_responses=True), streaming=False)
            for person in PEOPLE
        }
    )


if __name__ == "__main__":
    main()
