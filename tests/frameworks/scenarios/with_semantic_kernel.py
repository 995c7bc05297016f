"""Semantic Kernel: https://learn.microsoft.com/semantic-kernel (ChatCompletionAgent, OpenAIResponsesAgent)."""

from __future__ import annotations

from typing import Any

from semantic_kernel.agents import ChatCompletionAgent, OpenAIResponsesAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function
from talk import MODEL, get_weather, interleaved, main, scenario


class WeatherPlugin:
    @kernel_function(description="Get the weather in a city.")
    def get_weather(self, city: str) -> str:
        return get_weather(city)


def chat_agent() -> ChatCompletionAgent:
    return ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id=MODEL), name="Assistant", plugins=[WeatherPlugin()]
    )


def responses_agent(**options: Any) -> OpenAIResponsesAgent:
    return OpenAIResponsesAgent(
        ai_model_id=MODEL,
        client=OpenAIResponsesAgent.create_client(ai_model_id=MODEL),
        name="Assistant",
        plugins=[WeatherPlugin()],
        **options,
    )


async def talk(assistant: Any) -> None:
    threads: dict[str, Any] = {}
    for person, text in interleaved():
        response = await assistant.get_response(messages=text, thread=threads.get(person))
        threads[person] = response.thread


async def talk_streamed(assistant: Any) -> None:
    threads: dict[str, Any] = {}
    for person, text in interleaved():
        async for response in assistant.invoke_stream(messages=text, thread=threads.get(person)):
            threads[person] = response.thread


@scenario
async def chat() -> None:
    await talk(chat_agent())


@scenario
async def chat_streamed() -> None:
    await talk_streamed(chat_agent())


@scenario
async def responses() -> None:
    await talk(responses_agent())


@scenario
async def responses_streamed() -> None:
    await talk_streamed(responses_agent())


if __name__ == "__main__":
    main()
