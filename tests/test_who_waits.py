"""Who may wait, and who may be handed a provider (docs/architecture.md, The flow and Rooms), read from the source.

``flow`` is the one place where the application waits for anything of ours. Whatever else waits is no caller's: it is a
thread or a task beside the application, the end of the process, or what the application itself has asked for. Locks
that are held for a few steps of code (``with lock``) are not meant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_import_rules import SOURCE, write

ROOMS = ("openai", "traces", "telemetry")

# What holds its caller up, by the last words of what is called: answers, events, threads, stores, requests of our own.
WAITING = re.compile(
    r"(^|\.)(wait|wait_for|wait_on_loop|sleep|acquire|select|settle_at_exit|end_all|force_flush|shutdown)$"
    r"|store\.(get_all|aget_all|put|aput|claim|aclaim)$|(^|\.)HELD\.settle$|^a?retrieve$"
)
OURS = frozenset({"abegin", "adeliver", "adrive"})  # to await these is to leave it to flow

FLOW = "openai/flow.py"
MAY_WAIT = {
    "openai/beside.py:Beside._run": "the thread beside the application, which waits for something to do",
    "openai/held.py:_wait_for": "the end of the process, or of capture_spans(), waits for what is kept back",
    "openai/hooks.py:_AsyncSeen.aclose": "the application closes its own reply",
    "openai/notes.py:_settle_soon": "a thread of its own, which lets notes gather",
    "openai/notes.py:settle_at_exit": "the end of the process, for a thread that is just ending a call",
    "openai/patch.py:_async_request.request": "the application's own request",
    "openai/provider_lookup.py:ProviderLookup._walk": "a thread beside the application, which asks the provider",
    "openai/provider_lookup.py:ProviderLookup._awalk": "a task beside the application, which asks the provider",
    "openai/retrieval.py:aretrieve": "what that task sends",
    "openai/watch.py:AsyncWatched.__anext__": "the application reads its own stream",
    "openai/watch.py:end_all": "the end of the process",
}

OTEL_PROVIDER = re.compile(r"\b(Tracer|Meter|Logger)Provider\b")
MAY_TAKE_A_PROVIDER = {
    "traces/home.py:Home.__init__": "the one object that is made per tracer provider",
    "traces/home.py:Homes.__init__": "hands out the home of the provider in force",
    "traces/home.py:Homes._of_another": "makes that home",
    "traces/roots.py:Roots.__init__": "a part of the home, made once with it: a stand-in's tracer is asked for anew",
    "telemetry/metrics.py:MetricsSource.__init__": "the meter provider's own one object",
    "telemetry/metrics.py:MetricsSource._of_another": "makes its instruments",
    "telemetry/metrics.py:_bind": "makes its instruments",
    "telemetry/events.py:EventsSource.__init__": "the logger provider's own one object",
    "telemetry/events.py:EventsSource._of_another": "gets its logger",
    "telemetry/content/making.py:recorder_of": "makes the source of events",
    "telemetry/prices.py:Book.amount": "a text: who serves the model",
    "telemetry/prices.py:Prices.amount": "a text: who serves the model",
    "openai/costs.py:counts_of": "a text: who serves the model",
}


def functions_of(source: Path) -> Iterator[tuple[str, ast.AST, list[ast.AST]]]:
    """Each function of the rooms: its place, itself, and what is in it but in no function inside it."""
    for room in ROOMS:
        for file in (source / room).rglob("*.py"):
            place = file.relative_to(source).as_posix()
            for name, node in named(ast.parse(file.read_text(encoding="utf-8")), ()):
                yield f"{place}:{name}", node, list(inside(node))


def named(node: ast.AST, around: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        names = (*around, child.name) if is_function or isinstance(child, ast.ClassDef) else around
        if is_function:
            yield ".".join(names), child
        yield from named(child, names)


def inside(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
            yield from inside(child)


def waits(node: ast.AST) -> bool:
    if isinstance(node, ast.AsyncFor | ast.AsyncWith):
        return True
    if isinstance(node, ast.Await):
        return not (isinstance(node.value, ast.Call) and ast.unparse(node.value.func).split(".")[-1] in OURS)
    if not isinstance(node, ast.Call):
        return False
    is_timed = any(keyword.arg == "timeout" for keyword in node.keywords)
    return is_timed or WAITING.search(ast.unparse(node.func)) is not None


def waiting(source: Path) -> set[str]:
    return {place for place, _, body in functions_of(source) if any(waits(node) for node in body)}


def takes_a_provider(node: ast.AST) -> bool:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named_so = any(re.fullmatch(r"_?((tracer|meter|logger)_)?provider", argument.arg) for argument in arguments)
    hints = [ast.unparse(argument.annotation) for argument in arguments if argument.annotation is not None]
    return named_so or any(OTEL_PROVIDER.search(hint) for hint in hints)


def handed_a_provider(source: Path) -> set[str]:
    return {place for place, node, _ in functions_of(source) if takes_a_provider(node)}


def test_only_the_flow_waits():
    found = waiting(SOURCE)
    assert {place for place in found if not place.startswith(FLOW)} == set(MAY_WAIT)
    assert {place.removeprefix(f"{FLOW}:") for place in found if place.startswith(FLOW)} == {
        "drive", "adrive", "begin_at_once", "deliver", "_record", "adeliver", "_arecord",
    }  # fmt: skip


def test_no_signature_below_a_home_carries_a_provider():
    assert handed_a_provider(SOURCE) == set(MAY_TAKE_A_PROVIDER)


@pytest.mark.parametrize(
    "code",
    [
        "def f(call):\n    call.answer.wait(0.1)",
        "def f():\n    time.sleep(0.1)",
        "def f(runtime):\n    return runtime.store.get_all(())",
        "def f(self):\n    self._store.put((), None)",
        "def f(lock):\n    lock.acquire()",
        "def f(queue):\n    queue.get(timeout=1)",
        "async def f(answer):\n    await answer",
        "async def f(store):\n    await store.anything()",
        "async def f(all):\n    async for one in all:\n        pass",
    ],
)
def test_who_waits_is_found(tmp_path, code):
    write(tmp_path / "openai/talk.py", code)
    assert waiting(tmp_path) == {"openai/talk.py:f"}


@pytest.mark.parametrize(
    "code",
    [
        "async def f(call):\n    await abegin(call)",
        "def f(answer):\n    return answer.result()",
        "def f(answer):\n    answer.settle(None)",
        "def f(memory):\n    memory.put((), None)",
    ],
)
def test_who_leaves_it_to_the_flow_is_not(tmp_path, code):
    write(tmp_path / "openai/talk.py", code)
    assert waiting(tmp_path) == set()


@pytest.mark.parametrize(
    "code", ["def f(self, tracer_provider): ...", "def f(*, provider): ...", "def f(where: TracerProvider | None): ..."]
)
def test_who_is_handed_a_provider_is_found(tmp_path, code):
    write(tmp_path / "traces/links.py", code)
    assert handed_a_provider(tmp_path) == {"traces/links.py:f"}
