"""LangChain and LangGraph: https://docs.langchain.com/oss/python (Agents, Short-term memory, ChatOpenAI, Graph API)."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from talk import MODEL, PEOPLE, get_weather, interleaved, main, scenario, turns_of


def agent(**options: Any) -> Any:
    return create_agent(ChatOpenAI(model=MODEL, **options), [get_weather], checkpointer=InMemorySaver())


def said(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


def thread(person: str) -> Any:
    return {"configurable": {"thread_id": f"thread of {person}"}}


@scenario
def chat() -> None:
    assistant = agent()
    for person, text in interleaved():
        assistant.invoke(said(text), thread(person))


@scenario
async def chat_async_streamed() -> None:
    assistant = agent()
    for person, text in interleaved():
        async for _ in assistant.astream(said(text), thread(person), stream_mode="messages"):
            pass


@scenario
def responses() -> None:
    assistant = agent(use_responses_api=True)
    for person, text in interleaved():
        assistant.invoke(said(text), thread(person))


@scenario
def responses_streamed() -> None:
    assistant = agent(use_responses_api=True)
    for person, text in interleaved():
        for _ in assistant.stream(said(text), thread(person), stream_mode="messages"):
            pass


@scenario
async def previous_response_id() -> None:
    assistant = agent(use_responses_api=True, use_previous_response_id=True)
    for person, text in interleaved():
        await assistant.ainvoke(said(text), thread(person))


@scenario
async def parallel() -> None:
    assistant = agent()

    async def talk(person: str) -> None:
        for text in turns_of(person):
            await assistant.ainvoke(said(text), thread(person))

    await asyncio.gather(*map(talk, PEOPLE))


@scenario
def graph() -> None:
    model = ChatOpenAI(model=MODEL).bind_tools([get_weather])
    builder = StateGraph(MessagesState)
    builder.add_node("chatbot", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([get_weather]))
    builder.add_edge(START, "chatbot")
    builder.add_conditional_edges("chatbot", tools_condition)
    builder.add_edge("tools", "chatbot")
    chatbot = builder.compile(checkpointer=InMemorySaver())
    for person, text in interleaved():
        chatbot.invoke(said(text), thread(person))


if __name__ == "__main__":
    main()
