"""The application that is an agent of openai-agents."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_default_openai_client
from agents.tracing.processors import default_exporter
from app_client import MODEL, TURNS, Seen
from openai import AsyncOpenAI

default_exporter().endpoint = "http://127.0.0.1:9"  # its own traces go to OpenAI
default_exporter().max_retries = 0


def agent(api: str, session: str) -> Agent[Any]:
    client = AsyncOpenAI()  # one for each event loop
    if api == "responses":
        set_default_openai_client(client, use_for_tracing=False)
        return Agent(name="Assistant", model=MODEL)
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    return Agent(name="Assistant", model=model, model_settings=ModelSettings(extra_headers={"x-session-id": session}))


def talk(api: str, way: str) -> list[Seen]:
    """Two turns, a run each."""
    assistant = agent(api, f"{api} {way}")
    if way == "sync":
        found, ran = [], None
        for text in TURNS:
            said, more = following(api, text, ran)
            ran = Runner.run_sync(assistant, said, **more)
            found.append(seen_of(ran))
        return found
    return asyncio.run(_atalk(assistant, api, way))


async def _atalk(assistant: Agent[Any], api: str, way: str) -> list[Seen]:
    found, ran = [], None
    for text in TURNS:
        said, more = following(api, text, ran)
        if way == "astream":
            ran = Runner.run_streamed(assistant, said, **more)
            events = [event.type async for event in ran.stream_events()]
        else:
            ran, events = await Runner.run(assistant, said, **more), []
        found.append({**seen_of(ran), "events": len(events)})
    return found


def following(api: str, text: str, ran: Any) -> tuple[Any, dict[str, Any]]:
    """What is said after a run, and how it is tied to that."""
    if ran is None:
        return text, {}
    if api == "chat":
        return [*ran.to_input_list(), {"role": "user", "content": text}], {}
    return text, {"previous_response_id": ran.last_response_id}


def seen_of(ran: Any) -> Seen:
    return {"text": ran.final_output, "items": [item.type for item in ran.new_items]}
