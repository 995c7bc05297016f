"""smolagents: https://huggingface.co/docs/smolagents. It writes tool calls into texts, and no id comes back."""

from __future__ import annotations

from typing import Any

from smolagents import OpenAIModel, ToolCallingAgent, tool
from talk import MODEL, PEOPLE, interleaved, main, scenario

from otel_llm_sessions import session


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: The city.
    """
    return f"It is sunny in {city}."


def agent(**options: Any) -> ToolCallingAgent:
    return ToolCallingAgent(tools=[get_weather], model=OpenAIModel(model_id=MODEL, **options), max_steps=1)


def streaming() -> ToolCallingAgent:
    return ToolCallingAgent(tools=[get_weather], model=OpenAIModel(model_id=MODEL), max_steps=1, stream_outputs=True)


@scenario
def named() -> None:
    agents = {person: agent() for person in PEOPLE}
    for person, text in interleaved():
        with session(f"talk of {person}"):
            agents[person].run(text, reset=False)


@scenario
def named_streamed() -> None:
    agents = {person: streaming() for person in PEOPLE}
    for person, text in interleaved():
        with session(f"talk of {person}"):
            for _ in agents[person].run(text, reset=False, stream=True):
                pass


@scenario
def default_headers() -> None:
    agents = {
        person: agent(client_kwargs={"default_headers": {"x-session-id": f"talk of {person}"}}) for person in PEOPLE
    }
    for person, text in interleaved():
        agents[person].run(text, reset=False)


@scenario
def extra_body() -> None:
    agents = {person: agent(extra_body={"metadata": {"session.id": f"talk of {person}"}}) for person in PEOPLE}
    for person, text in interleaved():
        agents[person].run(text, reset=False)


if __name__ == "__main__":
    main()
