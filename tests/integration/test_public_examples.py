"""Every public name shows one example in its docstring, and the example runs."""

from __future__ import annotations

import inspect
import re
import textwrap

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otel_llm_sessions
from otel_llm_sessions import testing
from otel_llm_sessions.stores.memory import MemoryStore

PUBLIC = {name: getattr(otel_llm_sessions, name) for name in otel_llm_sessions.__all__ if name != "__version__"}
PUBLIC |= {"capture_spans": testing.capture_spans, "CapturedSpans": testing.CapturedSpans}
EXAMPLE = re.compile(r"(?m)^ *(?:.*\b)?Example.*::\n\n((?:(?:        .*)?\n)+)")


def example_of(documented: object) -> str:
    (code,) = EXAMPLE.findall(textwrap.indent(inspect.getdoc(documented) or "", "    ") + "\n")
    return textwrap.dedent(code)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name, client):
    def my_application() -> None:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])

    names = {**PUBLIC, "client": client, "my_application": my_application, "TracerProvider": TracerProvider}
    exec(example_of(PUBLIC[name]), {**names, "my_store": MemoryStore()})
