"""What docs/existing-pipelines.md has its readers write: the files and commands of each section, for tests to run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "existing-pipelines.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Section:
    """One section: what its blocks of code are."""

    title: str
    files: dict[str, str]
    """What each file holds; a block that begins with a comment of its name alone is a file."""
    commands: list[list[str]]
    """The words of each command; without what installs packages and sets variables."""
    variables: dict[str, str]
    """What ``export`` sets."""

    def command(self, word: str) -> list[str]:
        """The only command that has a word in it."""
        (found,) = (command for command in self.commands if word in command)
        return found


@cache
def sections() -> dict[str, Section]:
    """All sections by their titles."""
    parts = re.split(r"(?m)^## (.+)$", PAGE.read_text(encoding="utf-8"))
    return {title: section_of(title, text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def section_of(title: str, text: str) -> Section:
    """The section of a text."""
    files, lines = {}, []
    for language, code in BLOCK.findall(text):
        if language == "console":
            lines += [line[2:] for line in code.replace("\\\n", "").splitlines() if line.startswith("$ ")]
        elif named := re.match(r"# ([\w.-]+\.(?:py|yaml))\n", code):
            files[named[1]] = code
    words = [shlex.split(line, comments=True) for line in lines]
    variables = dict(word.split("=", 1) for line in words if line[0] == "export" for word in line[1:])
    return Section(title, files, [line for line in words if line[0] not in ("export", "pip")], variables)
