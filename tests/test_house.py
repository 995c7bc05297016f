"""The house stays readable: sizes of files and functions, and no circle between files (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from test_import_rules import PACKAGE, SOURCE, imported, package_of

from otel_llm_sessions.openai.call import Call

TESTS = Path(__file__).parent
MODULE, TEST_FILE, FUNCTION, MEDIAN = 400, 500, 40, 8


def too_long(files: Iterator[Path], most: int) -> dict[str, int]:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    return {file.name: length for file, length in lengths.items() if length > most}


def test_no_two_test_files_have_one_name():
    # pytest imports them by their names alone.
    names = Counter(file.name for file in TESTS.rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_in(node: ast.AST) -> Iterator[Function]:
    """The functions of a module, those in others too; expressions have none, and are most of a tree."""
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        for child in getattr(node, field, ()):
            if isinstance(child, Function):
                yield child
            yield from functions_in(child)


def functions() -> dict[str, int]:
    """How long each function of the package is, its docstring aside."""
    found = {}
    for file in SOURCE.rglob("*.py"):
        for node in functions_in(tree_of(file)):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = first.end_lineno - first.lineno + 1 if has_docstring and first.end_lineno else 0
            found[f"{file.name}:{node.name}:{node.lineno}"] = (node.end_lineno or 0) - node.lineno + 1 - docstring
    return found


def circles(source: Path) -> list[list[str]]:
    """Groups of files that import each other, directly or through others; under ``TYPE_CHECKING`` too."""
    graph = {name_of(file, source): file for file in source.rglob("*.py")}
    edges = {name: set(imports_of(file, source, set(graph))) - {name} for name, file in graph.items()}
    reach = {name: reachable(name, edges) for name in edges}
    groups = {frozenset({name, *(other for other in reach[name] if name in reach[other])}) for name in edges}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def name_of(file: Path, source: Path) -> str:
    return ".".join([PACKAGE, *file.relative_to(source).with_suffix("").parts]).removesuffix(".__init__")


def imports_of(file: Path, source: Path, modules: set[str]) -> Iterator[str]:
    place = file.relative_to(source)
    for _, target in imported(tree_of(file), package_of(place)):
        parts = target.split(".")
        named = (".".join(parts[:end]) for end in (len(parts), len(parts) - 1))
        yield from [name for name in named if name in modules][:1]


def reachable(name: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(edges[name])
    while todo:
        if (other := todo.pop()) not in found:
            found.add(other)
            todo.extend(edges[other])
    return found


def test_no_module_is_too_long():
    assert too_long(SOURCE.rglob("*.py"), MODULE) == {}


def test_no_test_file_is_too_long():
    assert too_long(TESTS.rglob("*.py"), TEST_FILE) == {}


def test_functions_are_short():
    lengths = functions()
    assert {name: length for name, length in lengths.items() if length > FUNCTION} == {}
    assert statistics.median(lengths.values()) <= MEDIAN


def test_no_files_import_each_other():
    assert circles(SOURCE) == []


def test_a_circle_is_found(tmp_path):
    for name, text in {
        "a.py": f"from {PACKAGE} import b",
        "b.py": f"def f():\n    from {PACKAGE}.c import thing",
        "c.py": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {PACKAGE}.a import Thing",
        "d.py": f"from {PACKAGE} import a",
    }.items():
        (tmp_path / name).write_text(text)
    assert circles(tmp_path) == [[f"{PACKAGE}.{name}" for name in "abc"]]


def written_to(name: str) -> dict[str, set[str]]:
    """Return which fields of what is called so are written, and by which modules beside the client."""
    writers: dict[str, set[str]] = {}
    for file in (SOURCE / "openai").rglob("*.py"):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == name:
                writers.setdefault(node.attr, set()).add(file.stem)
    return writers


def test_each_field_of_a_call_is_written_by_one_step():
    writers = {**written_to("call"), **written_to("self._call")}
    assert writers == {
        "waited": {"flow"},
        "turn": {"standing"},
        "span": {"standing"},
        "content": {"standing"},
        "gate": {"standing"},
        "first_chunk": {"observing"},
    }
    assert set(writers) < set(Call.__slots__)


def test_a_call_has_a_handful_of_methods():
    methods = [name for name, value in vars(Call).items() if isinstance(value, FunctionType | property)]
    assert len(methods) <= 9
