"""What is remembered of what others fill in is bounded in bytes, not only in count."""

from __future__ import annotations

import logging
import sys

import pytest
from openai import OpenAI

from otel_llm_sessions import guard
from otel_llm_sessions.openai import response, server


@pytest.mark.slow
def test_long_urls_are_read_but_not_kept():
    for number in range(50):
        client = OpenAI(api_key="x", base_url=f"http://a.test/{number}{'x' * 10_000}")
        assert server.server_of(client).name == "a.test"
        assert server.server_of(client).scope == "a.test:80"
    assert sum(sys.getsizeof(text) for _, text in server._by_text) < 500_000
    assert all(len(str(url)) <= server.MAX_URL for url, *_ in server._known.values())


def test_what_replies_say_is_kept_up_to_a_bound():
    texts_of = response.OPENAI_TEXTS
    names = ("gen_ai.response.model", "openai.response.service_tier", "openai.response.system_fingerprint")
    for number in range(2000):
        for texts in ((f"{number}", "x" * number, None), (number, None, None), ("m", 10**number, "f")):
            assert texts_of.of(texts) == {
                name: text[:256] for name, text in zip(names, texts, strict=True) if type(text) is str and text
            }
    assert len(texts_of.known) <= 256
    assert all(sum(len(text or "") for text in texts) < 512 for texts in texts_of.known)


def test_kinds_of_failures_are_told_apart_up_to_a_bound(caplog, nothing_reported):
    caplog.set_level(logging.DEBUG, "otel_llm_sessions")
    for number in range(2 * guard.MAX_KINDS):
        guard.report("try", type(f"Error{number}" + "x" * 1000, (Exception,), {})())
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING] * guard.MAX_KINDS + [logging.DEBUG] * guard.MAX_KINDS
    assert all(len(kind) <= guard.MAX_KIND for kind in guard._reported)
