"""Attribute names are written once."""

from __future__ import annotations

import ast
from pathlib import Path

from otel_llm_sessions import semconv

PACKAGE = Path(semconv.__file__).parent
NAMES = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str) and "." in value}
# The same word with another meaning: a context key of OpenInference's, and what a user's own test would say.
OTHERS = {("sessions/sources.py", "session.id"), ("testing.py", "session.id")}


def strings(file: Path) -> set[str]:
    text = file.read_text(encoding="utf-8")
    if not any(name in text for name in NAMES):
        return set()  # to understand a file takes ten times as long as to read it
    tree = ast.parse(text)
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_other_module_writes_an_attribute_name() -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in PACKAGE.rglob("*.py")
        if file.name != "semconv.py"
        for name in strings(file) & NAMES
    }
    assert found <= OTHERS


def test_every_name_of_ours_begins_alike() -> None:
    ours = {value for name, value in vars(semconv).items() if name.startswith("LLM_SESSION_")}
    assert len(ours) >= 9
    assert all(name.startswith("llm_session.") for name in ours)
