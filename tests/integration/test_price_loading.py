"""Prices are loaded beside the application: nothing waits for that, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from programs import run_code

PACKAGE = """
    {sleep}

    class Usage:
        def __init__(self, **counts):
            self.counts = counts

    sleep({seconds})
"""

SNAPSHOT = """
    import types
    from genai_prices import Usage

    price = types.SimpleNamespace(total_price=0.25, model_price=types.SimpleNamespace(input_mtok=1))
    model = types.SimpleNamespace(calc_price=lambda usage, provider, price_context: price)
    openai = types.SimpleNamespace(id="openai", find_model=lambda name, all_providers: model)
    snapshot = types.SimpleNamespace(providers=[openai])

    def get_snapshot():
        return snapshot
"""

APPLICATION = """
    import os, sys, threading, time
    import httpx2, openai
    from otel_llm_sessions.testing import capture_spans

    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=reply))
    client = openai.OpenAI(api_key="x", base_url="http://s/v1", http_client=httpx2.Client(transport=transport))

    def cost(spans):
        client.chat.completions.create(model="m", messages=[])
        return list(spans)[-1].attributes.get("gen_ai.usage.cost.amount")

    def cost_in_time(spans):
        until = time.monotonic() + 20
        while (amount := cost(spans)) is None and time.monotonic() < until:
            time.sleep(0.01)
        return amount
"""

NOBODY_WAITS = """
    begun = time.monotonic()
    with capture_spans(traces="turn", cost="prices") as spans:
        assert cost(spans) is None
        assert time.monotonic() - begun < {seconds}, "instrument() or the call has waited"
        assert cost_in_time(spans) == 0.25
"""

EXIT = """
    instrumented = capture_spans(traces="turn", cost="prices")
    spans = instrumented.__enter__()
    assert cost(spans) is None
    print(time.time(), flush=True)
"""

FORK = """
    with capture_spans(traces="turn", cost="prices") as spans:
        time.sleep({seconds} / 4)  # amid the import
        assert cost(spans) is None
        child = os.fork()
        amount = cost_in_time(spans)
        import genai_prices  # nor does the application wait for it for ever
        if not child:
            os._exit(0 if amount == 0.25 else 1)
        assert amount == 0.25
        assert os.waitpid(child, 0)[1] == 0
"""

GREENLETS = """
    gaps = [0.0]

    def tick():
        before = time.monotonic()
        while True:
            time.sleep(0.005)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()

    threading.Thread(target=tick, daemon=True).start()
    with capture_spans(traces="turn", cost="prices") as spans:
        assert cost_in_time(spans) == 0.25
    assert max(gaps) < {seconds} / 2, max(gaps)
"""


GREEN = {
    "gevent": (
        "from gevent import monkey; monkey.patch_all()",
        "from gevent.monkey import get_original; sleep = get_original('time', 'sleep')",
    ),
    "eventlet": (
        # The HTTP library imports trio where it is installed, and trio 0.35 fails to once eventlet 0.41 has patched.
        "import warnings; warnings.simplefilter('ignore'); import eventlet, sys; eventlet.monkey_patch(); "
        "sys.modules['trio'] = None",
        "import eventlet.patcher; sleep = eventlet.patcher.original('time').sleep",
    ),
}
"""What makes greenlets of threads, and the sleep of a thread and not of a greenlet: as an import that is at work."""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program with a package of prices that takes so many seconds to load."""

    def run(
        program: str, seconds: float, before: str = "", sleep: str = "from time import sleep"
    ) -> subprocess.CompletedProcess[str]:
        package = tmp_path / "genai_prices"
        package.mkdir()
        values = {"seconds": seconds, "sleep": sleep}
        (package / "__init__.py").write_text(textwrap.dedent(PACKAGE).format(**values))
        (package / "data_snapshot.py").write_text(textwrap.dedent(SNAPSHOT))
        told = program.format(**values)
        source = before + textwrap.dedent(APPLICATION) + textwrap.dedent(told)
        path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
        done = run_code(source, env={**os.environ, "PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.slow
@pytest.mark.alone
def test_no_call_waits_for_the_prices(run):
    run(NOBODY_WAITS, seconds=4)


@pytest.mark.slow
@pytest.mark.alone
def test_the_end_of_the_process_waits_for_nothing(run):
    done = run(EXIT, seconds=30)
    assert time.time() - float(done.stdout) < 15


@pytest.mark.slow
@pytest.mark.alone
def test_a_child_that_was_forked_amid_the_loading_loads_them_itself(run):
    run(FORK, seconds=1)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("kind", GREEN)
def test_greenlets_go_on_meanwhile(run, kind):
    pytest.importorskip(kind)
    patch, sleep = GREEN[kind]
    run(GREENLETS, seconds=4, before=patch + "\n", sleep=sleep)
