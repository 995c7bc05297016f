"""What stands at the top of a module is used by the package: nothing is left over, and nothing is there for tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from test_house import name_of
from test_import_rules import PACKAGE, SOURCE, imported, package_of, write

FOR_APPLICATIONS = {"otel_llm_sessions.testing.capture_spans"}
"""What only applications import, by its own module's name."""

FILTERS = "otel_llm_sessions.view.server.texts."
"""Templates use these by their names, which ``templating`` has as texts."""


def idle(source: Path) -> set[str]:
    """The full dotted names of what no module of the package uses."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in source.rglob("*.py")}
    used = {name for file, tree in trees.items() for name in names_used(file, tree, source)}
    return {name for file, tree in trees.items() for name in names_at_the_top(file, tree, source)} - used


def names_at_the_top(file: Path, tree: ast.Module, source: Path) -> Iterator[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        yield from (f"{name_of(file, source)}.{name}" for name in names if not name.startswith("__"))


def names_used(file: Path, tree: ast.Module, source: Path) -> Iterator[str]:
    module = name_of(file, source)
    modules: dict[str, str] = {}
    for line in imported(tree, package_of(file.relative_to(source))):
        yield line[1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield f"{module}.{node.id}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{modules.get(node.value.id, PACKAGE)}.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and module == f"{FILTERS[:-6]}templating":
            yield f"{FILTERS}{node.value}"


def test_nothing_is_there_that_the_package_does_not_use() -> None:
    assert idle(SOURCE) == FOR_APPLICATIONS


def test_what_is_left_over_is_found(tmp_path: Path) -> None:
    write(tmp_path / "leaf.py", "A: int = 1\nB = 2\n\ndef used():\n    return B\n\nclass Left: ...\n")
    write(tmp_path / "other.py", f"from {PACKAGE} import leaf\n\n_ABOVE = leaf.used()\n")
    assert idle(tmp_path) == {f"{PACKAGE}.leaf.A", f"{PACKAGE}.leaf.Left", f"{PACKAGE}.other._ABOVE"}
