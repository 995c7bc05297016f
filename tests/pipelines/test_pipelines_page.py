"""The page of the pipelines says what it was seen with, and is no more than what is tried."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.environments import PINNED
from pipelines.page import PAGE, sections


def test_the_page_names_the_versions_that_are_tried():
    told = re.findall(r"\b([a-z]+) (\d+\.\d+\.\d+)\b", PAGE.read_text(encoding="utf-8").partition("\n## ")[0])
    pinned = PINNED.versions.read_text()
    assert len(told) == 8
    assert [name for name, version in told if f"\n{name}=={version}\n" not in pinned] == []


def test_every_section_of_the_page_is_played():
    assert sections()
    played = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*_pipeline*.py"))
    assert [title for title in sections() if f'"{title}"' not in played] == []


def test_every_command_of_a_section_runs_what_the_section_writes():
    for title, section in sections().items():
        assert section.commands, title
        assert section.files, title
