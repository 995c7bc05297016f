"""instructor: https://python.useinstructor.com (Getting started, Retrying, Hooks and completions)."""

from __future__ import annotations

import asyncio
from typing import Any

import instructor
from pydantic import BaseModel, ValidationInfo, field_validator
from talk import MODEL, PEOPLE, interleaved, main, scenario

from otel_llm_sessions import session


class Weather(BaseModel):
    """The weather in a city."""

    city: str


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@scenario
def tool_messages() -> None:
    """The reply as it came goes into the history, and its tool call is answered, as the API asks."""
    client = instructor.from_provider(f"openai/{MODEL}")
    history: dict[str, list[Any]] = {person: [] for person in PEOPLE}
    for person, text in interleaved():
        said = [*history[person], user(text)]
        _, completion = client.create_with_completion(response_model=Weather, messages=said)
        reply = completion.choices[0].message
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "noted"} for call in reply.tool_calls]
        history[person] = [*said, {**reply.model_dump(exclude_none=True), "content": ""}, *answers]


@scenario
async def retries() -> None:
    """What does not validate is asked for again, with the faulty tool call before it: three calls of one question."""

    tries = dict.fromkeys(PEOPLE, 0)

    class Careful(Weather):
        @field_validator("city")
        @classmethod
        def is_right(cls, city: str, info: ValidationInfo) -> str:
            tries[info.context["person"]] += 1
            if tries[info.context["person"]] < 3:
                raise ValueError("that is no city")
            return city

    client = instructor.from_provider(f"openai/{MODEL}", async_client=True)

    async def ask(person: str, text: str) -> None:
        context = {"person": person}
        await client.create(response_model=Careful, messages=[user(text)], max_retries=3, context=context)

    turns = interleaved()
    await asyncio.gather(*(asyncio.create_task(ask(*next(turns))) for _ in PEOPLE))


@scenario
def named() -> None:
    """Plain messages carry no id: the application says whose they are."""
    client = instructor.from_provider(f"openai/{MODEL}")
    history: dict[str, list[Any]] = {person: [] for person in PEOPLE}
    for person, text in interleaved():
        history[person].append(user(text))
        with session(f"talk of {person}"):
            found = client.create(response_model=Weather, messages=history[person])
        history[person].append({"role": "assistant", "content": found.model_dump_json()})


@scenario
def named_streamed() -> None:
    """Of a reply that comes in parts (Streaming, Partial) the application keeps what was made of them."""
    client = instructor.from_provider(f"openai/{MODEL}")
    history: dict[str, list[Any]] = {person: [] for person in PEOPLE}
    for person, text in interleaved():
        history[person].append(user(text))
        with session(f"talk of {person}"):
            *_, found = client.create_partial(response_model=Weather, messages=history[person])
        history[person].append({"role": "assistant", "content": found.model_dump_json()})


if __name__ == "__main__":
    main()
