"""docs/beside-others.md and README's table say what the tests see, of the versions that they see it with."""

from __future__ import annotations

import re

import pytest
from backends.environments import PINNED as BACKENDS
from backends.programs import pins
from beside.environments import PACKAGES, PINNED
from beside.peers import DOCS, PEERS
from beside.told import EXPECTED, LOGFIRE
from compose_kit import SERVICES
from contract.matrix import ROOT

ROW = re.compile(r"^\| `([\w-]+)`[^|]* \| ([^|]+) \| (theirs|ours|both) \| (theirs|ours|both) \|", re.M)


def section(heading: str) -> list[list[str]]:
    """The cells of the rows of the table below a heading of README."""
    (text,) = re.findall(rf"(?m)^##+ {re.escape(heading)}\n(.*?)(?=^#)", (ROOT / "README.md").read_text(), re.S)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return rows[2:]


README = {row[0]: row[1:] for row in section("Backends, and other instrumentations")}


def seen(peer: str) -> str:
    """The version of what a peer is."""
    return PINNED.version(peer, PACKAGES[peer][0].partition("[")[0])


def test_every_peer_is_in_the_page_s_table_with_what_is_expected_of_it():
    rows = ROW.findall(DOCS.read_text())
    assert {name: (chat, responses) for name, _, chat, responses in rows} == EXPECTED
    assert {name: version for name, version, _, _ in rows} == {name: seen(name) for name in EXPECTED}
    assert f"**Logfire** ({seen('logfire')})" in DOCS.read_text()


def test_every_peer_is_looked_at():
    assert PEERS.keys() == PACKAGES.keys() == {*EXPECTED, "logfire"}


@pytest.mark.parametrize("peer", PEERS)
def test_readme_names_each_peer_with_its_version_and_whose_span_there_is(peer):
    (row,) = [cells for name, cells in README.items() if f"`{PACKAGES[peer][0]}`" in name]
    if peer == "logfire":
        told = f"{LOGFIRE['last']}; loaded before us: {LOGFIRE['first']}"
    else:
        chat, responses = EXPECTED[peer]
        told = chat if chat == responses else f"{chat}; Responses: {responses}"
    assert row[1:] == [told, seen(peer)]


@pytest.mark.parametrize(
    ("name", "version"),
    {
        "OpenTelemetry Collector": pins.COLLECTOR[1:],
        "Jaeger v2": SERVICES["jaeger"]["image"].partition(":")[2],
        "Phoenix": BACKENDS.version("phoenix", "arize-phoenix"),
        "MLflow": BACKENDS.version("mlflow", "mlflow"),
    }.items(),
)
def test_readme_names_each_backend_with_the_version_that_is_tested(name, version):
    (row,) = [cells for title, cells in README.items() if name in title]
    assert row[-1] == version


def test_readme_names_nothing_else():
    assert len(README) == len(PEERS) + 7
