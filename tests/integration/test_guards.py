"""Failures of this package where no call is under way: none reaches the application (DESIGN 9.3)."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import pytest

from otel_llm_sessions import OpenAISessionsInstrumentor, guard, session
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.stores.memory import MemoryStore


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(guard, "_reported", set())
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]


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
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
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
