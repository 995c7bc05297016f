"""Failures of this package where no call is under way: none reaches the application (docs/architecture.md)."""

from __future__ import annotations

import logging
import os
import sys
import threading

import pytest
from failures import warnings_of
from opentelemetry.sdk.trace import TracerProvider
from programs import run_code

from otel_llm_sessions import OpenAISessionsInstrumentor, session
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.session import SessionSpanProcessor
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.sqlite import SqliteBackend


@pytest.fixture
def warnings(caplog, nothing_reported):
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        yield lambda: warnings_of(caplog)


def test_openai_is_imported_although_patching_it_fails():
    program = """
        import otel_llm_sessions.openai.patch as patch
        from otel_llm_sessions import OpenAISessionsInstrumentor
        def fail(*arguments):
            raise RuntimeError("ours")
        patch.Patch.apply = fail
        OpenAISessionsInstrumentor().instrument()
        import openai
        print(openai.OpenAI.__name__)
    """
    done = run_code(program)
    assert done.stdout == "OpenAI\n", done.stderr
    assert done.stderr.count("otel-llm-sessions failed to patch the client") == 1


def test_a_session_is_entered_although_what_opens_it_cannot_be_made(monkeypatch, warnings):
    def fail(*arguments):
        raise RuntimeError("ours")

    # As before openai is imported: nothing is made yet.
    monkeypatch.delitem(sys.modules, "openai")
    OpenAISessionsInstrumentor().instrument()
    monkeypatch.setattr(Runtime, "__init__", fail)
    for _ in range(2):
        with session("named") as named:
            assert named.id == "named"
    assert len(warnings()) == 1


async def test_an_async_session_too(monkeypatch, warnings):
    def fail(*arguments):
        raise RuntimeError("ours")

    monkeypatch.delitem(sys.modules, "openai")
    OpenAISessionsInstrumentor().instrument()
    monkeypatch.setattr(Runtime, "__init__", fail)
    async with session("named") as named:
        assert named.id == "named"
    assert len(warnings()) == 1


class Kept(MemoryStore):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_store_that_the_application_made_is_not_closed_for_it():
    store = Kept()
    OpenAISessionsInstrumentor().instrument(store=store)
    OpenAISessionsInstrumentor().uninstrument()
    assert not store.closed


def test_a_store_of_our_own_that_cannot_be_closed_holds_up_nothing(monkeypatch, tmp_path, warnings):
    def fail(*arguments):
        raise RuntimeError("ours")

    instrumentor = OpenAISessionsInstrumentor()
    with monkeypatch.context() as patched:
        patched.setattr(SqliteBackend, "close", fail)
        instrumentor.instrument(store=f"sqlite:///{tmp_path}/sessions.db")
        instrumentor.uninstrument()
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert len(warnings()) == 1


def test_openai_that_is_there_already_and_cannot_be_patched(monkeypatch, warnings):
    monkeypatch.delattr("openai.AsyncOpenAI")
    OpenAISessionsInstrumentor().instrument()
    assert len(warnings()) == 1


class Closed(TracerProvider):
    def add_span_processor(self, span_processor):
        raise RuntimeError("no more processors")


def test_a_provider_that_takes_no_processor(client, warnings):
    OpenAISessionsInstrumentor().instrument(tracer_provider=Closed(shutdown_on_exit=False))
    assert client.responses.create(model="m", input="x").id
    assert len(warnings()) == 1


def test_a_provider_that_the_environment_names_wrongly():
    program = """
        from otel_llm_sessions import OpenAISessionsInstrumentor, session
        OpenAISessionsInstrumentor().instrument()
        with session("named"):
            print("entered")
    """
    done = run_code(program, env={**os.environ, "OTEL_PYTHON_TRACER_PROVIDER": "nonsense"})
    assert done.stdout == "entered\n", done.stderr


def test_a_span_without_attributes_is_not_stamped(warnings):
    with session("named"):
        SessionSpanProcessor().on_start(object())
    assert len(warnings()) == 1


class Fixed(threading.Thread):
    """A thread whose work cannot be replaced."""

    ran = False

    @property
    def run(self):
        return self.work

    def work(self):
        self.ran = True


@pytest.mark.usefixtures("spans")
@pytest.mark.parametrize("spans", [{"threads": "all"}], indirect=True)
def test_a_thread_whose_work_cannot_be_wrapped_runs_as_it_is(warnings):
    with session("named"):
        thread = Fixed()
        thread.start()
    thread.join()
    assert thread.ran
    assert len(warnings()) == 1
