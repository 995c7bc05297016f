"""What the documentation says of itself and of the settings is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from otel_llm_sessions.settings import Settings
from otel_llm_sessions.view.commands.options import FROM, FROM_HEADERS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
TOPICS = sorted(path.stem for path in ROOT.glob("docs/*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", without_code(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(without_code(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_setting_stands_in_the_table():
    rows = re.findall(r"(?m)^\| (`[A-Z_`, ]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"))
    of_commands = {name.removeprefix("OTEL_LLM_SESSIONS_") for name in (FROM, FROM_HEADERS)}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        field.name.upper() for field in fields(Settings)
    } | of_commands


def test_every_page_is_reached_from_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(without_code(page))}
        new |= {found for found in linked if found.suffix == ".md" and found.exists()} - reached
    assert {*ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"} <= reached


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_opens_with_what_the_reader_wants_to_do(topic):
    title, _, opening, *_ = (ROOT / "docs" / f"{topic}.md").read_text(encoding="utf-8").split("\n")
    assert title.startswith("# ")
    assert opening.startswith("You ")


def test_the_hooks_before_a_commit_are_what_make_lint_runs():
    recipe = re.search(r"(?m)^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert recipe is not None
    lint = re.findall(r"(?m)^\t@\$\(BIN\)/(.*)$", recipe[1])
    hooks = re.findall(
        r"(?m)^ +entry: \.venv/bin/(.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    )
    assert hooks == lint


def test_a_changelog_has_the_unreleased_on_top():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## (.*)$", text)[0] == "Unreleased"


def test_architecture_names_every_room_and_no_file_that_is_not_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "otel_llm_sessions"
    rooms = {path.parent.relative_to(package).as_posix() for path in package.rglob("__init__.py")} - {".", ""}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()
    assert [name for name in re.findall(r"`(tests/[\w/.]+)`", text) if not (ROOT / name).exists()] == []
    files = {path.name for path in package.rglob("*.py")}
    named = {name for name in re.findall(r"`(?:\w+/)*(\w+\.py)`", text) if not name.startswith("test_")}
    assert named - files == set()


def test_what_is_cited_is_in_the_repository():
    """Tests and code name pages that a reader can open."""
    cited = re.compile(r"\b(?:DESIGN|HOUSE|STYLE|WIRE)\b|§")
    files = [
        file for room in ("otel_llm_sessions", "tests", "benchmarks", "docs") for file in (ROOT / room).rglob("*.*")
    ]
    texts = [file for file in files if file.suffix in {".py", ".md"} and file != Path(__file__)]
    assert [str(file) for file in texts if cited.search(file.read_text(encoding="utf-8"))] == []
