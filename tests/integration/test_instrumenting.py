"""Switching instrumentation on and off: in any order, in processes of their own, and with values that are wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import run_code, run_to_its_end
from providers_kit import provider_to

from otel_llm_sessions import OpenAISessionsInstrumentor, SessionSpanProcessor, session
from otel_llm_sessions.stores.urls import ALLOWED

CLEARED = ("OTEL_", "OPENAI_", "AZURE_OPENAI_", "PYTHONWARNINGS")
APP = """
    from openai import OpenAI

    client = OpenAI()
    first = client.responses.create(model="gpt-4o-mini", input="Tell me a story")
    second = client.responses.create(model="gpt-4o-mini", input="Go on", previous_response_id=first.id)
    for _ in client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        extra_body={"metadata": {"litellm_session_id": "chat-42"}},
    ):
        pass
    print(first.id)
"""


def environment(server: Any, **more: str) -> dict[str, str]:
    """A process's environment in which nothing is set but what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    return {**inherited, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test", **more}


def run(command: list[str], env: dict[str, str]) -> str:
    """Run a process to its end and return what it printed; fails with all it said if it failed."""
    return succeeded(run_to_its_end(command, env))


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def printed_by(code: str, env: dict[str, str]) -> str:
    """Run a program's text without a warning, and return what it printed."""
    return succeeded(run_code(code, flags=["-W", "error"], env=env))


# --- in any order -------------------------------------------------------------------------------------------

SET_UP = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from otel_llm_sessions import OpenAISessionsInstrumentor, session

    exporter = InMemorySpanExporter()

    def instrument():
        OpenAISessionsInstrumentor().instrument(traces="turn")

    def set_provider():
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)

    def import_openai():
        global openai
        import openai
"""
CALL = """
    with openai.OpenAI() as client, session("s-1"):
        client.responses.create(model="gpt-4o-mini", input="Hello")
        with trace.get_tracer("app").start_as_current_span("step"):
            pass
    for span in exporter.get_finished_spans():
        print(span.name, span.attributes["session.id"])
"""
ORDERS = [
    ("import_openai", "set_provider", "instrument"),
    ("import_openai", "instrument", "set_provider"),
    ("set_provider", "import_openai", "instrument"),
    ("set_provider", "instrument", "import_openai"),
    ("instrument", "import_openai", "set_provider"),
    ("instrument", "set_provider", "import_openai"),
]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_the_order_of_importing_instrumenting_and_setting_the_provider_does_not_matter(server, order):
    steps = "".join(f"\n    {step}()" for step in order)
    printed = printed_by(SET_UP + steps + CALL, environment(server))
    assert printed.splitlines() == ["chat gpt-4o-mini s-1", "step s-1"]


@pytest.mark.slow
def test_a_client_made_before_instrumenting_is_traced_after_it(server):
    code = (
        SET_UP
        + """
    import_openai()
    client = openai.OpenAI()
    create = client.responses.create
    create(model="gpt-4o-mini", input="Hello")
    set_provider()
    instrument()
    create(model="gpt-4o-mini", input="Hello")
    OpenAISessionsInstrumentor().uninstrument()
    create(model="gpt-4o-mini", input="Hello")
    client.close()
    print(len(exporter.get_finished_spans()))
    """
    )
    assert printed_by(code, environment(server)) == "1\n"


@pytest.mark.slow
def test_instrumenting_while_another_thread_imports_the_client_waits_for_it(server):
    code = """
    import sys, threading, time
    from otel_llm_sessions import OpenAISessionsInstrumentor

    importing = threading.Thread(target=__import__, args=("openai",))
    importing.start()
    while "openai" not in sys.modules:
        time.sleep(0)
    begun = not hasattr(sys.modules["openai"], "OpenAI")
    OpenAISessionsInstrumentor().instrument()
    importing.join()
    import openai
    print(begun, "request" in vars(openai.OpenAI))
    """
    assert printed_by(code, environment(server)) == "True True\n"


@pytest.mark.slow
def test_uninstrumenting_before_the_client_is_imported_leaves_it_alone(server):
    code = (
        SET_UP
        + """
    instrument()
    OpenAISessionsInstrumentor().uninstrument()
    set_provider()
    import_openai()
    with openai.OpenAI() as client:
        client.responses.create(model="gpt-4o-mini", input="Hello")
    print(len(exporter.get_finished_spans()), "request" in vars(openai.OpenAI))
    """
    )
    assert printed_by(code, environment(server)) == "0 False\n"


@pytest.mark.slow
def test_without_an_sdk_calls_go_through_and_keep_their_sessions(server):
    code = """
    import openai
    from otel_llm_sessions import OpenAISessionsInstrumentor, current_session, session

    OpenAISessionsInstrumentor().instrument()
    with openai.OpenAI() as client, session("s-1"):
        first = client.responses.create(model="gpt-4o-mini", input="Hello")
        list(client.responses.create(model="gpt-4o-mini", input="Go on", previous_response_id=first.id, stream=True))
        print(current_session().id)
    """
    assert printed_by(code, environment(server)) == "s-1\n"


@pytest.mark.slow
def test_the_client_is_not_imported_for_an_application_that_does_not_use_it(server):
    code = """
    import sys
    from otel_llm_sessions import OpenAISessionsInstrumentor

    OpenAISessionsInstrumentor().instrument()
    unwanted = {"openai", "httpx", "httpx2", "pydantic", "redis", "sqlite3"}
    print(unwanted & {name.partition(".")[0] for name in sys.modules})
    """
    assert printed_by(code, environment(server)) == "set()\n"


# --- opentelemetry-instrument -------------------------------------------------------------------------------


def instrument_command(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(sysconfig.get_path("scripts")) / "opentelemetry-instrument"), *arguments]


def others() -> str:
    """The other instrumentations of this environment, which a user with ours alone does not have."""
    installed = metadata.entry_points(group="opentelemetry_instrumentor")
    return ",".join(entry.name for entry in installed if entry.name != "openai_sessions")


@pytest.fixture
def app(tmp_path) -> str:
    """Where the application is."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    return str(tmp_path / "app.py")


@pytest.fixture
def exporting(server, receiver) -> dict[str, str]:
    """The environment of a user who has set where OTLP goes, and nothing else."""
    return environment(
        server,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=others(),
    )


@pytest.mark.slow
def test_an_unmodified_application_is_instrumented_by_the_command(app, exporting, receiver):
    chain = run(instrument_command(sys.executable, app), exporting).strip()
    calls = [span for span in receiver.spans if span.kind == "CLIENT"]
    assert {span.scope for span in calls} == {"otel_llm_sessions"}
    assert [(span.attributes["session.id"], span.attributes["llm_session.source"]) for span in calls] == [
        (chain, "new"),
        (chain, "chain"),
        ("chat-42", "metadata"),
    ]
    assert {span.resource["telemetry.sdk.language"] for span in calls} == {"python"}


@pytest.mark.slow
def test_metrics_arrive_over_otlp_too_and_name_no_session(app, exporting, receiver):
    run(instrument_command(sys.executable, app), exporting)
    arrived = {metric.name: metric for metric in receiver.metrics if metric.scope == "otel_llm_sessions"}
    assert {name: (metric.unit, metric.type) for name, metric in arrived.items()} == {
        "gen_ai.client.operation.duration": ("s", "histogram"),
        "gen_ai.client.operation.time_to_first_chunk": ("s", "histogram"),
        "gen_ai.client.token.usage": ("{token}", "histogram"),
    }
    durations = arrived["gen_ai.client.operation.duration"].points
    assert sum(point["count"] for point in durations) == 3
    assert durations[0]["bounds"] == [0.01 * 2**power for power in range(14)]
    assert arrived["gen_ai.client.token.usage"].points[0]["bounds"] == [4**power for power in range(14)]
    labels = {name for metric in arrived.values() for point in metric.points for name in point["attributes"]}
    assert not [name for name in labels if "session" in name or "conversation" in name or name.endswith(".id")]


@pytest.mark.slow
def test_the_command_reads_the_settings_from_the_environment(app, exporting, receiver):
    run(instrument_command(sys.executable, app), {**exporting, "OTEL_LLM_SESSIONS_METADATA_KEYS": "my_key"})
    assert "chat-42" not in {span.attributes.get("session.id") for span in receiver.spans}
    assert len([span for span in receiver.spans if span.kind == "CLIENT"]) == 3


@pytest.mark.slow
def test_under_the_command_the_client_is_imported_only_by_the_application(exporting):
    code = "import sys; print('openai' in sys.modules, 'otel_llm_sessions.instrumentor' in sys.modules)"
    assert run(instrument_command(sys.executable, "-c", code), exporting) == "False True\n"


@pytest.mark.slow
def test_under_the_command_a_wrong_store_is_one_line_and_the_application_is_instrumented(app, exporting, receiver):
    env = {**exporting, "OTEL_LLM_SESSIONS_STORE": "redis://:hunter2@localhost:port"}
    done = run_to_its_end(instrument_command(sys.executable, app), env)
    (line,) = done.stderr.splitlines()
    assert "OTEL_LLM_SESSIONS_STORE='redis://***@localhost:port'" in line
    assert "hunter2" not in line
    assert len([span for span in receiver.spans if span.kind == "CLIENT"]) == 3


# --- wrong values -------------------------------------------------------------------------------------------


@pytest.fixture
def instrumentor() -> Iterator[OpenAISessionsInstrumentor]:
    instrumentor = OpenAISessionsInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_an_unknown_keyword_is_named_together_with_those_there_are(instrumentor):
    with pytest.raises(TypeError, match=r"no keyword trace_mode: expected any of .*\bstore\b.*\btraces\b"):
        instrumentor.instrument(trace_mode="turn")
    assert "request" not in vars(openai.OpenAI)


WRONG = [
    ("traces", "sessions", "one of session, turn"),
    ("spans", "never", "one of auto, always, annotate"),
    ("conversation_id", "sometimes", "one of given, always"),
    ("max_turns", "0", "a whole number greater than 0"),
    ("max_age", "yesterday", "a time greater than 0, such as 90s, 30m, 24h or 7d"),
    ("store", "mysql://localhost", ALLOWED),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_keyword_value_is_refused_with_what_is_allowed(instrumentor, name, value, allowed):
    with pytest.raises(ValueError, match="is not valid") as raised:
        instrumentor.instrument(**{name: value})
    assert str(raised.value) == f"{name}={value!r} is not valid: expected {allowed}"
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert "request" not in vars(openai.OpenAI)


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_environment_value_is_reported_once_and_the_default_is_used(
    instrumentor, monkeypatch, caplog, name, value, allowed
):
    variable = f"OTEL_LLM_SESSIONS_{name.upper()}"
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        instrumentor.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{variable}={value!r} is not valid: expected {allowed}; the default ")
    assert instrumentor.is_instrumented_by_opentelemetry


def test_a_wrong_store_url_is_reported_without_its_password(instrumentor):
    with pytest.raises(ValueError, match="is not valid") as raised:
        instrumentor.instrument(store="mysql://me:secret@localhost")
    assert "secret" not in str(raised.value)


WRONG_URLS = [
    "redis://:hunter2@host:port",
    "redis://localhost?no_such_option=1",
    "sqlite:///f.db?mode=ro",
    "sqlite:///",
    "redis+cluster://one,two/3",
    "memory://x",
]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_of_a_right_kind_is_refused_as_a_keyword(instrumentor, url):
    with pytest.raises(ValueError, match=r"OTEL_LLM_SESSIONS_STORE=.*Allowed: memory://, sqlite:///.*") as raised:
        instrumentor.instrument(store=url)
    assert "hunter2" not in str(raised.value)
    assert not instrumentor.is_instrumented_by_opentelemetry


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_of_a_right_kind_in_the_environment_is_reported_once_and_the_default_is_used(
    instrumentor, monkeypatch, caplog, client, url
):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_STORE", url)
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        instrumentor.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
        client.responses.create(model="gpt-4o-mini", input="Hello")
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("OTEL_LLM_SESSIONS_STORE=")
    assert record.getMessage().endswith("; the default 'memory://' is used")
    assert "hunter2" not in record.getMessage()


def test_a_missing_extra_is_an_error_for_a_keyword_and_a_report_for_the_environment(instrumentor, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in ("redis", "redis_lines"):
        monkeypatch.delitem(sys.modules, f"otel_llm_sessions.stores.{name}", raising=False)
    with pytest.raises(ImportError, match="pip install 'redis>=5'"):
        instrumentor.instrument(store="redis://localhost")
    monkeypatch.setenv("OTEL_LLM_SESSIONS_STORE", "redis://localhost")
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        instrumentor.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    (record,) = caplog.records
    assert "pip install 'redis>=5'" in record.getMessage()


def test_after_a_refused_value_instrumenting_works(instrumentor, client):
    with pytest.raises(ValueError, match="traces"):
        instrumentor.instrument(traces="no")
    exporter = InMemorySpanExporter()
    provider = provider_to(exporter)
    instrumentor.instrument(tracer_provider=provider)
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    assert len(exporter.get_finished_spans()) == 1


# --- on and off again ---------------------------------------------------------------------------------------


def processors_of(provider: TracerProvider) -> list[SessionSpanProcessor]:
    return [found for found in provider._active_span_processor._span_processors if type(found) is SessionSpanProcessor]


def test_a_provider_gets_the_session_processor_once_however_often_it_is_instrumented(instrumentor, client):
    exporter = InMemorySpanExporter()
    provider = provider_to(exporter)
    for _ in range(3):
        instrumentor.instrument(tracer_provider=provider)
        instrumentor.uninstrument()
    instrumentor.instrument(tracer_provider=provider)
    assert len(processors_of(provider)) == 1
    with session("s-1"), provider.get_tracer("app").start_as_current_span("step"):
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    named = [span.name for span in exporter.get_finished_spans() if span.attributes["session.id"] == "s-1"]
    assert named.count("chat gpt-4o-mini") == named.count("step") == 1


def test_after_uninstrumenting_the_session_processor_stamps_nothing(instrumentor):
    provider = TracerProvider(shutdown_on_exit=False)
    instrumentor.instrument(tracer_provider=provider)
    instrumentor.uninstrument()
    with session("s-1"), provider.get_tracer("app").start_as_current_span("step") as span:
        assert "session.id" not in span.attributes


def test_a_processor_that_the_application_added_itself_is_not_joined_by_another(instrumentor):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SessionSpanProcessor())
    instrumentor.instrument(tracer_provider=provider)
    with session("s-1"), provider.get_tracer("app").start_as_current_span("step") as span:
        assert span.attributes["session.id"] == "s-1"


def test_instrumenting_twice_keeps_one_span_per_call(instrumentor, client):
    exporter = InMemorySpanExporter()
    provider = provider_to(exporter)
    instrumentor.instrument(tracer_provider=provider)
    instrumentor.instrument(tracer_provider=provider)  # logs a warning, as every instrumentor does
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    assert len(exporter.get_finished_spans()) == 1


def test_threads_that_switch_it_on_and_off_at_once_leave_nothing_behind(instrumentor, client):
    def at_once(switch: Any) -> None:
        with ThreadPoolExecutor(4) as pool:
            together = threading.Barrier(4)
            for switched in [pool.submit(lambda: (together.wait(), switch())) for _ in range(4)]:
                switched.result()

    def spans_of_one_call() -> int:
        exporter.clear()
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
        return len(exporter.get_finished_spans())

    exporter = InMemorySpanExporter()
    provider, interval = provider_to(exporter), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # without the lock one of two rounds left a wrapper that was still on
    try:
        for _ in range(10):
            at_once(lambda: instrumentor.instrument(tracer_provider=provider))
            assert spans_of_one_call() == 1
            at_once(instrumentor.uninstrument)
            assert spans_of_one_call() == 0
            assert "request" not in vars(openai.OpenAI)
    finally:
        sys.setswitchinterval(interval)


def test_a_store_that_lacks_something_is_refused_by_what_it_lacks():
    class Older:
        scope = "x"

        def get(self, keys: Any) -> Any: ...
        def put(self, keys: Any, link: Any) -> None: ...
        def claim(self, key: str) -> bool: ...
        def close(self) -> None: ...

    with pytest.raises(ValueError, match="Older: a SessionStore also has get_all, aget_all, aput, aclaim"):
        OpenAISessionsInstrumentor().instrument(store=Older())
