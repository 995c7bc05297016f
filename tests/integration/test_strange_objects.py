"""Objects of the application's that are neither hashable, nor true, nor equal to themselves alone; copies; imports."""

from __future__ import annotations

import copy
import pickle

import pytest
from loopback_client import MESSAGES, MODEL
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import run_code

from otel_llm_sessions import OpenAISessionsInstrumentor, session
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans


class Odd:
    """Equal to everything, and so not hashable; false; empty."""

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class Unequal:
    """Comparing it is a mistake."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class OddProvider(Odd, TracerProvider):
    pass


class UnequalProvider(Unequal, TracerProvider):
    pass


class OddMeterProvider(Odd, MeterProvider):
    pass


class OddStore(Odd, MemoryStore):
    pass


@pytest.mark.parametrize("kind", [OddProvider, UnequalProvider])
def test_a_provider_that_cannot_be_hashed_gets_spans_and_stamps(client, kind, caplog):
    providers = [kind(shutdown_on_exit=False) for _ in range(2)]
    for provider in providers:
        exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        OpenAISessionsInstrumentor().instrument(tracer_provider=provider)
        try:
            with session("chat-42"), provider.get_tracer("app").start_as_current_span("work"):
                client.chat.completions.create(model=MODEL, messages=MESSAGES)
        finally:
            OpenAISessionsInstrumentor().uninstrument()
        names = {span.name: span.attributes.get("session.id") for span in exporter.get_finished_spans()}
        assert {"work", f"chat {MODEL}"} <= set(names)
        assert set(names.values()) == {"chat-42"}
    assert not [record for record in caplog.records if record.name.startswith("otel_llm_sessions")]


def test_a_store_and_a_meter_provider_that_are_false_are_used(api):
    reader = InMemoryMetricReader()
    store = OddStore()
    with capture_spans(store=store, meter_provider=OddMeterProvider([reader])) as spans:
        first = api.respond()
    assert spans
    assert reader.get_metrics_data() is not None
    with capture_spans(store=store) as spans:
        api.respond(previous_response_id=first.id)
    assert spans[-1].attributes["llm_session.turn"] == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("make", [copy.copy, lambda response: pickle.loads(pickle.dumps(response))])
def test_a_reply_that_is_not_read_yet_is_copied_as_it_would_be_without_us(client, spans, stream, make):
    calls = client.chat.completions.with_streaming_response
    with calls.create(model=MODEL, messages=MESSAGES, stream=stream) as reply:
        before = dict(vars(reply.http_response))
        made = make(reply.http_response)
        assert not {"close", "aclose", "iter_bytes", "aiter_bytes", "__getstate__"} & set(vars(made))
        assert vars(reply.http_response) == before
        assert reply.read()
    assert spans[-1].attributes["gen_ai.response.id"]


def run(code: str, *arguments: str) -> str:
    done = run_code(code, *arguments, flags=["-W", "error"])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_client_that_is_imported_anew_is_instrumented(server):
    code = """
        import importlib, sys
        from otel_llm_sessions import OpenAISessionsInstrumentor
        from otel_llm_sessions.testing import capture_spans

        def chat():
            import openai
            with openai.OpenAI(base_url=sys.argv[1], api_key="k") as client:
                client.chat.completions.create(model="m", messages=[])

        with capture_spans(traces="turn") as spans:
            chat()
            for _ in range(2):
                for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
                    del sys.modules[name]
                chat()
            importlib.reload(sys.modules["openai"])
            chat()
        chat()
        print(len(spans))
    """
    assert run(code, server.base_url) == "4\n"


@pytest.mark.slow
@pytest.mark.parametrize("provider_is_set", ["before the client is imported", "after it", "anew"])
def test_a_stream_that_is_open_at_exit_is_exported_whenever_the_provider_was_set(server, provider_is_set):
    code = """
        import sys
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from otel_llm_sessions import OpenAISessionsInstrumentor

        def provide():
            trace.set_tracer_provider(TracerProvider())
            exporter = ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")
            trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter))

        way = sys.argv[2]
        if way != "after it":
            provide()
        OpenAISessionsInstrumentor().instrument(traces="turn")
        import openai
        if way == "after it":
            provide()
        client = openai.OpenAI(base_url=sys.argv[1], api_key="k")
        client.responses.create(model="first", input="x")
        if way == "anew":
            trace._TRACER_PROVIDER_SET_ONCE._done = False
            provide()
            client.responses.create(model="second", input="x")
        stream = client.responses.create(model="open", input="x", stream=True)
        next(stream)
    """
    printed = run(code, server.base_url, provider_is_set).split("\n")
    assert "chat open" in printed
