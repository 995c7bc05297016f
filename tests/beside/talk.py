"""Two turns in every form, with a peer instrumented before us, after us, or without one of the two: run by the tests.

    talk.py PEER first|last|alone|without|bare

`first`: the peer is instrumented before us; `last`: after us; `alone`: without us; `without`: us without the peer;
`bare`: neither. For each form it prints a line of JSON: what the application got. Every span that starts meanwhile
says which form it belongs to.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

FORM = "test.form"
MODEL = "gpt-4o-mini"
APIS = ("chat", "responses")
WAYS = ("sync", "async", "stream", "astream")
TURNS = ("Hello", "Thank you")

_form: ContextVar[str | None] = ContextVar("form", default=None)


class Marks(SpanProcessor):
    """Writes on each span during which form it was started."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if form := _form.get():
            span.set_attribute(FORM, form)


# --- the peers, each as its documentation says ----------------------------------------------------------------------


def genai_openai() -> None:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def openai_v2() -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def openllmetry() -> None:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


elastic = openllmetry  # the same place, in a distribution of its own


def openinference() -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def langfuse() -> None:
    from langfuse import Langfuse

    importlib.import_module("langfuse.openai")  # wraps the client's methods
    Langfuse(public_key="pk-lf-test", secret_key="sk-lf-test", host="http://127.0.0.1:9", timeout=1)


def logfire() -> None:
    import logfire

    # The two lines that docs/beside-others.md has.
    logfire.configure(
        scrubbing=logfire.ScrubbingOptions(callback=kept),
        send_to_logfire=False,
        console=False,
        additional_span_processors=[Marks()],
    )
    logfire.instrument_openai(suppress_other_instrumentation=False)


def kept(match: Any) -> Any:
    """What Logfire is not to scrub."""
    return match.value if match.pattern_match.group(0) == "session" else None


def openlit() -> None:
    import openlit

    openlit.init(disable_metrics=True)


def sentry() -> None:
    import sentry_sdk

    sentry_sdk.init(dsn="http://public@127.0.0.1:9/1", traces_sample_rate=1.0, shutdown_timeout=0)


def ddtrace() -> None:
    import ddtrace

    ddtrace.tracer.enabled = True
    ddtrace.patch(openai=True)


def newrelic() -> None:
    import newrelic.agent

    newrelic.agent.initialize()


def http() -> None:
    from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    HTTPX2ClientInstrumentor().instrument()
    RequestsInstrumentor().instrument()


PEERS: dict[str, Callable[[], None]] = {
    "http": http,
    "genai-openai": genai_openai,
    "openai-v2": openai_v2,
    "openllmetry": openllmetry,
    "elastic": elastic,
    "openinference": openinference,
    "langfuse": langfuse,
    "logfire": logfire,
    "openlit": openlit,
    "sentry": sentry,
    "ddtrace": ddtrace,
    "newrelic": newrelic,
}


def ours() -> None:
    from otel_llm_sessions import OpenAISessionsInstrumentor

    OpenAISessionsInstrumentor().instrument()


def instrument(peer: str, order: str) -> None:
    theirs = PEERS[peer]
    loaded = {"first": (theirs, ours), "last": (ours, theirs), "alone": (theirs,), "without": (ours,), "bare": ()}
    for load in loaded[order]:
        load()


# --- the application ------------------------------------------------------------------------------------------------


def arguments(api: str, text: str, previous: str | None, session: str) -> dict[str, Any]:
    if api == "chat":
        return {"messages": [{"role": "user", "content": text}], "extra_headers": {"x-session-id": session}}
    return {"input": text, **({"previous_response_id": previous} if previous else {})}


def resource(client: Any, api: str) -> Any:
    return client.chat.completions if api == "chat" else client.responses


def seen(reply: Any) -> dict[str, Any]:
    """What an application sees of a reply, but what is another in each run."""
    told = reply.output_text if hasattr(reply, "output_text") else reply.choices[0].message.content
    return {"type": f"{type(reply).__module__}.{type(reply).__name__}", "text": told}


def seen_of_stream(stream: Any, chunks: list[Any]) -> dict[str, Any]:
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if getattr(chunk, "choices", None)]
    parts += [chunk.delta for chunk in chunks if getattr(chunk, "type", "") == "response.output_text.delta"]
    kinds = sorted({f"{type(chunk).__module__}.{type(chunk).__name__}" for chunk in chunks})
    return {"chunks": len(chunks), "kinds": kinds, "text": "".join(parts)}


def id_of(reply: Any) -> str:
    return getattr(reply, "id", None) or reply.response.id


def talk(api: str, way: str) -> list[dict[str, Any]]:
    """Two turns, by a client that waits."""
    from openai import OpenAI

    found, previous = [], None
    with OpenAI() as client:
        for text in TURNS:
            said = arguments(api, text, previous, f"{api} {way}")
            reply = resource(client, api).create(model=MODEL, stream=way == "stream", **said)
            if way == "stream":
                chunks = list(reply)
                found.append(seen_of_stream(reply, chunks))
                previous = id_of(chunks[0])
            else:
                found.append(seen(reply))
                previous = reply.id
    return found


async def atalk(api: str, way: str) -> list[dict[str, Any]]:
    """Two turns, by a client on an event loop."""
    from openai import AsyncOpenAI

    found, previous = [], None
    async with AsyncOpenAI() as client:
        for text in TURNS:
            said = arguments(api, text, previous, f"{api} {way}")
            reply = await resource(client, api).create(model=MODEL, stream=way == "astream", **said)
            if way == "astream":
                chunks = [chunk async for chunk in reply]
                found.append(seen_of_stream(reply, chunks))
                previous = id_of(chunks[0])
            else:
                found.append(seen(reply))
                previous = reply.id
    return found


def main() -> None:
    peer, order = sys.argv[1:]
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):  # Logfire brings its own
        provider.add_span_processor(Marks())
    instrument(peer, order)
    for api in APIS:
        for way in WAYS:
            form = f"{api} {way}"
            _form.set(form)
            try:
                got: Any = asyncio.run(atalk(api, way)) if way.startswith("a") else talk(api, way)
            except Exception as error:
                got = repr(error)
            _form.set(None)
            print(json.dumps({"form": form, "got": got}), flush=True)


if __name__ == "__main__":
    main()
