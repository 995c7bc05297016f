"""An environment for each framework, with the versions that `versions.txt` pins.

``python tests/frameworks/environments.py`` writes the newest versions into that file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.matrix import CONSTRAINTS, Environment, uv

VERSIONS = Path(__file__).with_name("versions.txt")
PYTHON = "3.13"
OURS = "-e", ".[otlp]"

# What a user installs of each.
FRAMEWORKS = {
    "openai-agents": ("openai-agents",),
    "langchain": ("langchain", "langchain-openai", "langgraph"),
    "pydantic-ai": ("pydantic-ai-slim[openai]",),
    "llama-index": ("llama-index-core", "llama-index-llms-openai"),
    "instructor": ("instructor",),
    "autogen": ("autogen-agentchat", "autogen-ext[openai]"),
    "ag2": ("ag2[openai]",),
    "semantic-kernel": ("semantic-kernel",),
    "agent-framework": ("agent-framework-core", "agent-framework-openai"),
    "smolagents": ("smolagents[openai]",),
}


def pinned() -> dict[str, str]:
    """The lines of each framework's section."""
    parts = VERSIONS.read_text().split("\n[")[1:]
    return {name: lines for name, _, lines in (part.partition("]\n") for part in parts)}


def version(framework: str, package: str) -> str:
    """The version of a package in a framework's environment."""
    lines = (line.partition("==") for line in pinned()[framework].splitlines())
    return next(found for name, _, found in lines if name == package)


def environment(framework: str) -> Environment:
    """A framework's environment."""
    return Environment(f"framework {framework}", PYTHON, (*OURS, *FRAMEWORKS[framework]), pins=pinned()[framework])


def renew() -> None:
    """Write the newest versions; what our own tests run with is preferred, so that environments share packages."""
    head = VERSIONS.read_text().split("\n[")[0]
    VERSIONS.write_text("\n".join([head, *(f"[{name}]\n{newest(name)}" for name in FRAMEWORKS)]))


def newest(framework: str) -> str:
    """The newest versions of all that a framework's environment holds."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, found = Path(folder, "wanted.in"), Path(folder, "found.txt")
        wanted.write_text("\n".join(["otel-llm-sessions[otlp] @ .", *FRAMEWORKS[framework]]))
        found.write_text(CONSTRAINTS.read_text())
        uv("pip", "compile", "-q", "--python-version", PYTHON, "--no-annotate", "--no-header",
           "--no-emit-package", "otel-llm-sessions", str(wanted), "-o", str(found))  # fmt: skip
        return found.read_text()


if __name__ == "__main__":
    renew()
