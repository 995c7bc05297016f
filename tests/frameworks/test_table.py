"""docs/frameworks.md names each framework with the versions that it is played with."""

from __future__ import annotations

from contract.matrix import ROOT
from frameworks.environments import FRAMEWORKS, version
from frameworks.scenarios_told import SCENARIOS

PAGE = (ROOT / "docs/frameworks.md").read_text()
TABLE = [line.split("|") for line in PAGE.splitlines() if line.startswith("|")]


def test_the_table_names_the_versions_of_each_framework():
    told = {cells[-2].strip() for cells in TABLE[2:]} - {""}
    assert told == {", ".join(versions(framework)) for framework in FRAMEWORKS}


def test_the_readme_names_the_version_of_each_framework():
    rows = [line.split("|") for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    begin = next(number for number, cells in enumerate(rows) if cells[1].strip() == "framework") + 2
    told = [cells[-2].strip() for cells in rows[begin : begin + len(FRAMEWORKS)]]
    assert set(told) == {versions(framework)[0] for framework in FRAMEWORKS}


def versions(framework: str) -> list[str]:
    packages = [package.partition("[")[0] for package in (*FRAMEWORKS[framework], "openai")]
    return [f"{package} {version(framework, package)}" for package in packages]


def test_every_framework_is_played():
    assert list(SCENARIOS) == list(FRAMEWORKS)


def test_the_page_names_the_sources_that_were_seen():
    seen = {source for scenarios in SCENARIOS.values() for sources in scenarios.values() for source in sources.split()}
    by_name = {"new", "context", "header", "metadata"}
    assert {source for source in seen - by_name if f"`{source}`" not in PAGE} == set()
