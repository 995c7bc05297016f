"""Who may import whom (docs/architecture.md, Rooms), read from the source and not from a running process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "otel_llm_sessions"
SOURCE = Path(__file__).parents[1] / PACKAGE

LEAVES = frozenset({"bounded", "cheap", "forks", "guard", "patches", "semconv", "version"})
# What each room may import besides itself and the leaves; a room that is not listed may import all but demo and view.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "openai": frozenset({"sessions", "stores", "traces", "telemetry", "settings"}),
    "traces": frozenset({"sessions", "stores", "settings"}),
    "settings": frozenset({"sessions", "stores"}),  # the key lists that are its defaults; how a URL is shown
    "stores": frozenset({"sessions"}),
    "telemetry": frozenset(),
    "sessions": frozenset(),
    "view": frozenset(),  # what arrived may be anybody's: it knows attribute names and nothing else of ours
    "demo": frozenset({"view"}),
    **dict.fromkeys(LEAVES, frozenset()),
}
MAY_IMPORT_DEMO = frozenset({"demo", "cli"})
MAY_IMPORT_VIEW = frozenset({"demo", "cli", "view"})
CLIENT = "openai"


def violations(source: Path) -> list[str]:
    """Every import below `source` that the rules forbid, as ``file:line: why``."""
    return sorted(line for file in source.rglob("*.py") for line in violations_of(file, source))


def violations_of(file: Path, source: Path) -> Iterator[str]:
    place = file.relative_to(source)
    room = place.parts[0].removesuffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    for line, target in imported(tree, package_of(place)):
        if reason := forbidden(room, target.split(".")):
            yield f"{place.as_posix()}:{line}: {reason}"
    for line in client_imports(tree):
        yield f"{place.as_posix()}:{line}: imports {CLIENT} when it is imported itself"


def package_of(place: Path) -> list[str]:
    """The dotted package that relative imports of a file start from."""
    return [PACKAGE, *place.parts[:-1]]


def imported(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each import, wherever it stands and however it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = [*base, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*parts, alias.name])) for alias in node.names)


def forbidden(room: str, target: list[str]) -> str | None:
    """Why a room must not import a target, or None when it may."""
    if target[0] != PACKAGE:
        return None
    if len(target) == 1:
        return f"{room} imports the whole package" if room in MAY_IMPORT else None
    other = target[1]
    if other == "demo" and room not in MAY_IMPORT_DEMO:
        return f"{room} imports the demo"
    if other == "view" and room not in MAY_IMPORT_VIEW:
        return f"{room} imports the view"
    if other == room or other in LEAVES or room not in MAY_IMPORT or other in MAY_IMPORT[room]:
        return None
    return f"{room} imports {other}"


def client_imports(node: ast.AST) -> Iterator[int]:
    """Lines that import the client while the module itself is imported: not in functions, not for types only."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        if any(name.split(".")[0] == CLIENT for _, name in imported(node, [PACKAGE])):
            yield node.lineno
        return
    for child in children_that_run(node):
        yield from client_imports(child)


def children_that_run(node: ast.AST) -> list[ast.AST]:
    """What is executed below a node when its module is imported."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return []
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        return list(node.orelse)
    return list(ast.iter_child_nodes(node))


def test_every_import_follows_the_rules() -> None:
    assert violations(SOURCE) == []


def test_the_rules_name_rooms_that_exist() -> None:
    rooms = {path.stem for path in SOURCE.iterdir()}
    assert MAY_IMPORT.keys() | MAY_IMPORT_DEMO | MAY_IMPORT_VIEW <= rooms


@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [
        ("sessions/resolver.py", "from otel_llm_sessions.telemetry.span import start", "sessions imports telemetry"),
        ("sessions/resolver.py", "from ..traces import ids", "sessions imports traces"),
        ("stores/redis.py", "from .. import session", "stores imports session"),
        ("sessions/resolver.py", "from otel_llm_sessions.stores import codec", "sessions imports stores"),
        ("telemetry/span.py", "def f():\n    import otel_llm_sessions.sessions.link", "telemetry imports sessions"),
        ("traces/ids.py", "from otel_llm_sessions.openai.patch import apply", "traces imports openai"),
        ("traces/ids.py", "import otel_llm_sessions", "traces imports the whole package"),
        ("openai/patch.py", "from otel_llm_sessions import instrumentor", "openai imports instrumentor"),
        ("telemetry/span.py", "from otel_llm_sessions.settings import Settings", "telemetry imports settings"),
        ("guard.py", "from otel_llm_sessions import sessions", "guard imports sessions"),
        ("testing.py", "from otel_llm_sessions.demo.provider import server", "testing imports the demo"),
        ("testing.py", "from otel_llm_sessions.view import receiver", "testing imports the view"),
        ("demo/runner.py", "from otel_llm_sessions.session import session", "demo imports session"),
        ("view/terminal/tree.py", "from otel_llm_sessions.sessions import link", "view imports sessions"),
        ("instrumentor.py", "import openai", "imports openai when it is imported itself"),
        (
            "openai/patch.py",
            "try:\n    from openai import types\nexcept ImportError:\n    raise",
            "imports openai when",
        ),
        ("demo/run.py", "class Run:\n    from openai import OpenAI", "imports openai when it is imported itself"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, code: str, reason: str) -> None:
    write(tmp_path / file, code)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:")
    assert reason in found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("openai/patch.py", "from otel_llm_sessions.sessions import link\nfrom ..traces import ids\nfrom . import raw"),
        ("stores/redis.py", "from otel_llm_sessions.guard import report\nfrom ..sessions.link import SessionLink"),
        ("openai/patch.py", "def f():\n    import openai"),
        ("openai/patch.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from openai import OpenAI"),
        ("openai/patch.py", "from otel_llm_sessions.openai import raw"),
        ("cli.py", "from otel_llm_sessions.demo import run"),
        ("demo/runner.py", "from otel_llm_sessions.view import tree"),
        ("instrumentor.py", "from otel_llm_sessions import openai, sessions, telemetry, traces"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, file: str, code: str) -> None:
    write(tmp_path / file, code)
    assert violations(tmp_path) == []


def write(file: Path, code: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
