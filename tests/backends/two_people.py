"""An application as two people use it, three turns each: a chat with a tool, and a chain of responses; both stream.

The first argument names the chat's session; with ``--in-requests`` each turn is made in a span of the application's.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext

from openai import OpenAI
from opentelemetry.trace import SpanKind, get_tracer

from otel_llm_sessions import session

MODEL = "gpt-4o-mini"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}]
ASKED = "What is the weather in Paris?"
LONG = ASKED + " Think of all of it." * 500
RESULT = json.dumps({"degrees": 21})
THEN = "Thanks! And tomorrow?"
CHAIN = ("What is the capital of France?", "How many people live there?", "Thanks! Goodbye.")
REQUEST = "POST /chat"


class People:
    """Two people, and how each of their turns is made."""

    def __init__(self, client: OpenAI, in_requests: bool) -> None:
        self._client = client
        self._in_requests = in_requests

    def _request(self):
        if not self._in_requests:
            return nullcontext()
        return get_tracer("web").start_as_current_span(REQUEST, kind=SpanKind.SERVER)

    def chat(self, name: str) -> None:
        """A question that needs a tool, its result, and a question more, which is streamed."""
        messages = [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": LONG}]
        with session(name, user="ann"):
            said = self._complete(messages, tools=TOOLS, tool_choice="required").choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            messages += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in said.tool_calls]
            said = self._complete(messages, tools=TOOLS).choices[0].message
            messages.append({"role": "assistant", "content": said.content})
            messages.append({"role": "user", "content": THEN})
            with self._request():
                stream = self._client.chat.completions.create(
                    model=MODEL, messages=messages, tools=TOOLS, stream=True, stream_options={"include_usage": True}
                )
                for _ in stream:
                    pass

    def _complete(self, messages, **more):
        with self._request():
            return self._client.chat.completions.create(model=MODEL, messages=messages, **more)

    def chain(self) -> None:
        """Three responses, each named by the next; the second is streamed."""
        with self._request():
            first = self._respond(CHAIN[0])
        with self._request():
            *_, completed = self._respond(CHAIN[1], previous_response_id=first.id, stream=True)
        with self._request():
            self._respond(CHAIN[2], previous_response_id=completed.response.id)

    def _respond(self, question: str, **more):
        return self._client.responses.create(model=MODEL, input=question, instructions="Be brief.", **more)


if __name__ == "__main__":
    name, *options = sys.argv[1:]
    with OpenAI() as client:
        people = People(client, "--in-requests" in options)
        people.chat(name)
        people.chain()
