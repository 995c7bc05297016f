"""AutoGen: https://microsoft.github.io/autogen (AgentChat: Agents, Teams; Extensions: OpenAI Agent)."""

from __future__ import annotations

from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario


def agent(**options: Any) -> AssistantAgent:
    return AssistantAgent(
        name="assistant",
        model_client=OpenAIChatCompletionClient(model=MODEL),
        tools=[get_weather],
        reflect_on_tool_use=True,
        **options,
    )


@scenario
async def chat() -> None:
    agents = {person: agent() for person in PEOPLE}
    for person, text in interleaved():
        await agents[person].run(task=text)


@scenario
async def chat_streamed() -> None:
    agents = {person: agent(model_client_stream=True) for person in PEOPLE}
    for person, text in interleaved():
        async for _ in agents[person].run_stream(task=text):
            pass


@scenario
async def team() -> None:
    teams = {person: RoundRobinGroupChat([agent()], max_turns=1) for person in PEOPLE}
    for person, text in interleaved():
        await teams[person].run(task=text)


if __name__ == "__main__":
    main()
