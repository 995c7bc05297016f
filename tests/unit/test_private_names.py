"""No test reaches a private name of the package that is not listed here, with the reason."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "otel_llm_sessions"
WORD = re.compile(r"\w+")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def of_package() -> set[str]:
    """Every private name that the package gives: to functions, classes, module variables and attributes."""
    return {name for file in PACKAGE.rglob("*.py") for name in given_in(ast.parse(file.read_text(encoding="utf-8")))}


def given_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            names = [node.attr if isinstance(node, ast.Attribute) else node.id]
        else:
            continue
        yield from filter(is_private, names)


def reached(file: Path, names: set[str]) -> set[str]:
    """The private names of the package that a test file reaches."""
    text = file.read_text(encoding="utf-8")
    if names.isdisjoint(WORD.findall(text)):
        return set()  # to understand a file takes ten times as long as to read it
    tree = ast.parse(text)
    own = set(given_in(tree))
    return {name for name in reached_in(tree, own) if name in names}


def reached_in(tree: ast.AST, own: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if not (ast.unparse(node.value) in {"self", "cls", "super()"} and node.attr in own):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("otel_llm_sessions"):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {" ", ":"} & {*node.value}:
            yield node.value.rpartition(".")[2]  # setattr(module, "_name"), "otel_llm_sessions.module._name"


THE_STORES = "when a store rests or is back, or what waits to be written, is not to be asked in another way"

LISTED: dict[str, tuple[str, frozenset[str]]] = {
    # name: the reason, the files
    "_call": ("what writes to a call is looked for in the source", frozenset({"test_house.py"})),
    "_reported": (
        "a process reports each kind of failure once, a test each of its own; and what is kept of them is bounded",
        frozenset({"conftest.py", "unit/test_bounded_tables.py"}),
    ),
    "_lately": (
        "what one test puts into a conversation is of another task than the next test",
        frozenset({"integration/conftest.py"}),
    ),
    "_walk": ("a model that thinks replies when no look-up is left: nobody else knows", frozenset({"conftest.py"})),
    "_awalk": ("as _walk, on an event loop", frozenset({"conftest.py"})),
    "_left_open": (
        "whether the pool of a client of any openai version is found, on which look-ups depend silently",
        frozenset({"contract/test_shared_sessions.py"}),
    ),
    "_keeper": (THE_STORES, frozenset({"stores/test_contract.py", "stores/test_guarded.py"})),
    "_backend": (
        "where a store is asked by another process, or in a child by its own keeper",
        frozenset({"stores/test_contract.py", "stores/test_guarded.py", "stores/test_keeper.py"}),
    ),
    "_crew": ("a turn that a signal's handler never gives back", frozenset({"stores/test_keeper.py"})),
    "_TURN_LOST": ("a turn that a signal's handler never gives back", frozenset({"stores/test_keeper.py"})),
    "_write": ("a file that is busy, as on a slow disk", frozenset({"stores/test_sqlite.py"})),
    "_file": ("which statements a batch is", frozenset({"stores/test_sqlite.py"})),
    "_connection": ("which statements a batch is", frozenset({"stores/test_sqlite.py"})),
    "_max_keys": ("whether a setting reaches the store", frozenset({"stores/test_opening.py"})),
    "_Field": ("records are written that no release writes", frozenset({"stores/test_codec.py"})),
    "_is_sound": ("records are written that no release writes", frozenset({"stores/test_codec.py"})),
    "_lock": (
        "a thread is held where it takes the lock, so that another meets it there",
        frozenset(
            {
                "integration/test_metrics.py",
                "stores/test_guarded.py",
                "stores/test_keeper.py",
                "unit/test_database.py",
                "unit/test_roots.py",
            }
        ),
    ),
    "_storage": ("what a failed write leaves behind, before another writes", frozenset({"unit/test_database.py"})),
    "_origins": ("what a failed write leaves behind, before another writes", frozenset({"unit/test_database.py"})),
    "_given": ("a provider that is slow to be made, amid a call", frozenset({"integration/test_metrics.py"})),
    "_known": (
        "what is kept of others is bounded, in count and bytes; what is known better than the store",
        frozenset(
            {
                "integration/test_nothing_grows.py",
                "stores/test_guarded.py",
                "unit/test_bounded_tables.py",
                "unit/test_roots.py",
            }
        ),
    ),
    "_by_text": ("what is kept of others is bounded", frozenset({"unit/test_bounded_tables.py"})),
    "_pieces": (
        "what is kept of a body or of a reply that streams by is bounded",
        frozenset({"unit/test_body_reader.py", "unit/test_words_replied.py"}),
    ),
    "_size": ("what is kept of a reply that streams by is bounded", frozenset({"unit/test_words_replied.py"})),
    "_events": ("what is kept of a body that streams by is bounded", frozenset({"unit/test_body_reader.py"})),
    "_start": (
        "a request is read as the client's are, and then begun by the long way, which none takes by itself",
        frozenset({"integration/test_short_ways.py"}),
    ),
    "_response": (
        "openai's own, of a raw response: that nobody holds it",
        frozenset({"integration/test_safe_points.py"}),
    ),
    "_request": (
        "OpenInference's module, by whose name its wrapper is known",
        frozenset({"integration/test_peers_put_back.py"}),
    ),
    "_record": ("names of functions of `flow`, in which alone a call waits", frozenset({"test_who_waits.py"})),
    "_arecord": ("names of functions of `flow`, in which alone a call waits", frozenset({"test_who_waits.py"})),
    "_links": ("how many bytes a store's own table takes", frozenset({"integration/test_memory_bounds.py"})),
    "_claims": ("how many bytes a store's own table takes", frozenset({"integration/test_memory_bounds.py"})),
    "_iterator": ("openai's own, of a stream: whether it is being read", frozenset({"integration/test_endings.py"})),
}


@functools.cache
def every_reach() -> dict[str, set[str]]:
    """The files that reach each private name."""
    names = of_package()
    found: dict[str, set[str]] = {}
    for file in TESTS.rglob("*.py"):
        if file != Path(__file__):
            for name in reached(file, names):
                found.setdefault(name, set()).add(file.relative_to(TESTS).as_posix())
    return found


def test_no_test_reaches_a_private_name_that_is_not_listed_with_its_reason():
    found = every_reach()
    unlisted = {name: files - LISTED.get(name, ("", frozenset()))[1] for name, files in found.items()}
    assert {name: files for name, files in unlisted.items() if files} == {}


def test_nothing_is_listed_that_no_test_reaches_any_more():
    found = every_reach()
    stale = {name: files - found.get(name, set()) for name, (_, files) in LISTED.items()}
    assert {name: files for name, files in stale.items() if files} == {}


def test_a_reach_is_found_however_it_is_written():
    for code in (
        "from otel_llm_sessions.stores.guarded import _private",
        "store._private.clear()",
        "monkeypatch.setattr(store, '_private', None)",
        "monkeypatch.setattr('otel_llm_sessions.guard._private', None)",
        "self._private()",
    ):
        assert "_private" in set(reached_in(ast.parse(code), set())), code
    own = "class A:\n def __init__(self): self._private = 1\n def f(self): return self._private"
    assert "_private" not in set(reached_in(ast.parse(own), set(given_in(ast.parse(own)))))
