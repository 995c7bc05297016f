"""A streamed chat: `with session(...)` names the session for every call inside, here with an id of its own making.

To run it, in a checkout of this repository:

    pip install ".[instruments,otlp]"
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    opentelemetry-instrument --service_name streaming-chat python examples/streaming_chat.py

To see what was said, with the numbers in it redacted, in one line more:

    export OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY OTEL_LLM_SESSIONS_CONTENT_HOOK=__main__:redacted
"""

import os
import re

from openai import OpenAI

from otel_llm_sessions import session

QUESTIONS = ("What is the capital of France?", "How many people live there?", "Thanks! Call me at 555-0199. Goodbye.")


def redacted(content):
    """Return what is to be recorded of a call, of which nothing is recorded where this fails (docs/content.md)."""
    for message in content["input"] + content["output"]:
        for part in message["parts"]:
            if part["type"] == "text":
                part["content"] = re.sub(r"\d[\d -]*\d", "***", part["content"])
    return content


client = OpenAI()
model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
messages = [{"role": "system", "content": "Answer in one sentence."}]

with session():  # session("support-4711") would use that id
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        stream = client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        answer = ""
        for chunk in stream:
            for choice in chunk.choices:
                answer += choice.delta.content or ""
                print(choice.delta.content or "", end="", flush=True)
        print()
        messages.append({"role": "assistant", "content": answer})
