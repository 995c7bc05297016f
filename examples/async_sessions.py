"""Three conversations at the same time in one asyncio program, each of them a session of its own.

To run it, in a checkout of this repository:

    pip install ".[instruments,otlp]"
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    opentelemetry-instrument --service_name async-sessions python examples/async_sessions.py
"""

import asyncio
import os
import uuid

from openai import AsyncOpenAI

from otel_llm_sessions import session

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
QUESTIONS = ("Where should I go for a weekend?", "What should I pack?", "And what should I read on the train?")


async def converse(client: AsyncOpenAI, traveller: str) -> None:
    messages = [{"role": "system", "content": f"You advise {traveller}. One sentence."}]
    async with session(f"{traveller}-{uuid.uuid4()}"):
        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            completion = await client.chat.completions.create(model=MODEL, messages=messages)
            answer = completion.choices[0].message.content or ""
            messages.append({"role": "assistant", "content": answer})
            print(f"{traveller}: {answer}")


async def main() -> None:
    async with AsyncOpenAI() as client:
        await asyncio.gather(*(converse(client, traveller) for traveller in ("anna", "ben", "chris")))


asyncio.run(main())
