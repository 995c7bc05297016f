"""The instrumentations, each switched on and off as its documentation says; run in an environment that has it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DOCS = Path(__file__).parents[2] / "docs" / "beside-others.md"
WAYS = ("sync", "async", "stream", "astream")


@dataclass(frozen=True)
class Peer:
    """An instrumentation, and the application that is tried beside it."""

    on: Callable[[], None]
    off: Callable[[], None] | None = None
    """None if it has no way to be switched off."""
    entries: str = ""
    """The names under which opentelemetry-instrument finds it, as OTEL_PYTHON_DISABLED_INSTRUMENTATIONS takes them."""
    application: str = "app_client"
    """The module that talks."""
    ways: tuple[str, ...] = WAYS


def of_opentelemetry(*paths: str, off: Callable[[], None] | None = None, **more: Any) -> Peer:
    """A peer made of OpenTelemetry's instrumentors, each named by its full path, and how it is switched off."""

    def instrumentors() -> list[Any]:
        parts = (path.rpartition(".") for path in paths)
        return [getattr(importlib.import_module(module), name)() for module, _, name in parts]

    def on() -> None:
        for instrumentor in instrumentors():
            instrumentor.instrument()

    def uninstrument() -> None:
        for instrumentor in instrumentors():
            instrumentor.uninstrument()

    return Peer(on, off or uninstrument, **more)


def as_documented(containing: str, **names: Any) -> dict[str, Any]:
    """Run the block of docs/beside-others.md that has these words; return the names that it leaves."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if containing in block]
    exec(compile(block, str(DOCS), "exec"), names)
    return names


def openllmetry_off() -> None:
    from openai.resources.chat.completions import Completions
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().uninstrument()
    assert hasattr(Completions.create, "__wrapped__")  # why there are lines for it (0.62.4)
    as_documented("from openai.resources")


def langfuse() -> None:
    from langfuse import Langfuse

    importlib.import_module("langfuse.openai")  # wraps the client's methods
    Langfuse(public_key="pk-lf-test", secret_key="sk-lf-test", host="http://127.0.0.1:9", timeout=1)


_logfire: Any = None


def logfire_on() -> None:
    import logfire

    def instrument_openai(**options: Any) -> None:
        global _logfire
        _logfire = logfire.instrument_openai(**options)
        _logfire.__enter__()

    said = {**vars(logfire), "instrument_openai": instrument_openai}
    if _logfire is not None:
        said["configure"] = lambda **options: None  # it makes providers anew
    as_documented("logfire.configure", logfire=SimpleNamespace(**said))


def logfire_off() -> None:
    _logfire.__exit__(None, None, None)


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


def ddtrace_off() -> None:
    from ddtrace.contrib.internal.openai.patch import unpatch

    unpatch()


def newrelic() -> None:
    import newrelic.agent

    newrelic.agent.initialize()


HTTPX = "opentelemetry.instrumentation.httpx.HTTPX2ClientInstrumentor"
REQUESTS = "opentelemetry.instrumentation.requests.RequestsInstrumentor"
ELASTICS = OPENLLMETRYS = "opentelemetry.instrumentation.openai.OpenAIInstrumentor"  # one place, two distributions

PEERS = {
    "genai-openai": of_opentelemetry("opentelemetry.instrumentation.genai.openai.OpenAIInstrumentor", entries="openai"),
    "openai-v2": of_opentelemetry("opentelemetry.instrumentation.openai_v2.OpenAIInstrumentor", entries="openai"),
    "openllmetry": of_opentelemetry(OPENLLMETRYS, entries="openai", off=openllmetry_off),
    "openinference": of_opentelemetry("openinference.instrumentation.openai.OpenAIInstrumentor", entries="openai"),
    "elastic": of_opentelemetry(ELASTICS, entries="openai"),
    "langfuse": Peer(langfuse),
    "logfire": Peer(logfire_on, logfire_off),
    "openlit": Peer(openlit),
    "http": of_opentelemetry(HTTPX, REQUESTS, entries="httpx2,requests"),
    "fastapi": of_opentelemetry(
        "opentelemetry.instrumentation.fastapi.FastAPIInstrumentor", entries="fastapi", application="app_fastapi"
    ),
    "celery": of_opentelemetry(
        "opentelemetry.instrumentation.celery.CeleryInstrumentor", entries="celery", application="app_celery"
    ),
    # It is OpenLLMetry's, which leaves its wrapper where it is when it is switched off (0.62.4).
    "langchain": Peer(
        of_opentelemetry("opentelemetry.instrumentation.langchain.LangchainInstrumentor").on,
        # opentelemetry-instrument finds it where the package langchain is, too
        application="app_langchain",
    ),
    "openinference-langchain": of_opentelemetry(
        "openinference.instrumentation.langchain.LangChainInstrumentor",
        entries="langchain",
        application="app_langchain",
    ),
    "openai-agents": of_opentelemetry(
        "opentelemetry.instrumentation.genai.openai_agents.OpenAIAgentsInstrumentor",
        entries="openai_agents",
        application="app_agents",
        ways=("sync", "async", "astream"),
    ),
    "sentry": Peer(sentry),
    "ddtrace": Peer(ddtrace, ddtrace_off),
    "newrelic": Peer(newrelic),
}
