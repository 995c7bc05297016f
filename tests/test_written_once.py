"""Helpers of the tests are written once: no two files define one with the same body, whatever its names and values."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_house import TESTS, Function, functions_in, tree_of

SMALLEST = 10
"""Parts of a body: what is smaller is written again sooner than it is found elsewhere."""

LEFT_OUT = {"annotation", "returns", "decorator_list", "ctx", "kind", "is_async", "type_comment", "type_params"}

TWICE = {
    ("beside/app_client.py resource", "odd_kit.py resource_of"): "the one runs where the tests' own packages are not",
}
"""Helpers that may have the same body, and why."""


@functools.cache
def twins(folder: Path) -> list[tuple[str, ...]]:
    """Groups of helpers with one body, in different files."""
    alike: dict[Any, list[tuple[str, Function]]] = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        for helper in functions_in(tree_of(file)):
            if not helper.name.startswith("test_"):
                alike[outline(helper)].append((file.relative_to(folder).as_posix(), helper))
    groups: dict[Any, set[tuple[str, str]]] = defaultdict(set)
    for found in alike.values():
        for file, helper in found if in_several_files(found) else ():
            made = Shape(helper)
            if made.parts >= SMALLEST:
                groups[made.body].add((file, helper.name))
    named = ([f"{file} {name}" for file, name in sorted(group)] for group in groups.values() if in_several_files(group))
    return sorted(map(tuple, named))


def in_several_files(group: Iterable[tuple[str, Any]]) -> bool:
    return len({file for file, _ in group}) > 1


def outline(node: ast.AST) -> Any:
    """Which statements there are, one in another: what has one shape has one outline, which is found much sooner."""
    bodies = (getattr(node, field, []) for field in ("body", "orelse", "handlers", "finalbody", "cases"))
    inside = [tuple(map(outline, without_docstring(body))) for body in bodies]
    return type(node).__name__.removeprefix("Async").replace("AnnAssign", "Assign"), *inside


class Shape:
    """What a function does, but for its own names, values, annotations, docstring, and whether it awaits."""

    def __init__(self, function: Function) -> None:
        self.parts = 0
        self._own = set(own_names(function))
        self._numbers: dict[str, int] = {}
        self.body = self._of_node(function.args), self._of_list(without_docstring(function.body))

    def _of(self, value: Any) -> Any:
        if isinstance(value, list):
            return self._of_list(value)
        return self._of_node(value) if isinstance(value, ast.AST) else value

    def _of_list(self, values: list[Any]) -> Any:
        return tuple(map(self._of, values))

    def _of_node(self, node: ast.AST) -> Any:
        match node:
            case ast.Await(value=value):
                return self._of_node(value)
            case ast.Constant(value=value):
                self.parts += 1
                return value if value is None or isinstance(value, bool) else "a value"
            case ast.AnnAssign(target=target, value=value) if value is not None:
                return self._of_node(ast.Assign([target], value))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return "def", self._name(node.name), self._of(node.args), self._of_list(without_docstring(node.body))
        self.parts += isinstance(node, ast.expr | ast.stmt)
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in LEFT_OUT]
        is_name = isinstance(node, ast.Name | ast.arg)
        values = [self._name(value) if is_name and isinstance(value, str) else self._of(value) for _, value in fields]
        return type(node).__name__.removeprefix("Async"), *values

    def _name(self, name: str) -> Any:
        return self._numbers.setdefault(name, len(self._numbers)) if name in self._own else name


def own_names(function: Function) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *others]:
            return others
    return body


def test_no_two_files_define_one_helper():
    assert [group for group in twins(TESTS) if group not in TWICE] == []


def test_each_exception_is_needed():
    assert set(TWICE) <= set(twins(TESTS))


FIRST = '''
def first(spans: list, name: str = "a") -> dict[str, int]:
    """Counts."""
    found: dict = {}
    for span in spans:
        found.setdefault(span.name, []).append(name)
    return found
'''
SAME = """
async def test_a_thing():
    @decorated
    async def other(made, sort="b"):
        by = {}
        async for one in made:
            await by.setdefault(one.name, []).append(sort)
        return by
"""


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (SAME, [("a.py first", "b.py other")]),
        (SAME.replace("one.name", "one.kind"), []),
        (SAME.replace("append(sort)", "append(one)"), []),
        ("def small(spans):\n    return len(spans)", []),
    ],
)
def test_a_twin_is_found_however_it_is_named(tmp_path, second, found):
    (tmp_path / "a.py").write_text(FIRST + "\n\ndef again(spans):\n    return len(spans)\n")
    (tmp_path / "b.py").write_text(second)
    assert twins(tmp_path) == found
