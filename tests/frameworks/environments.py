"""An environment for each framework, with the versions that `versions.txt` pins.

``python tests/frameworks/environments.py`` writes the newest versions into that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.pinned import Pinned

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
PINNED = Pinned("framework", Path(__file__).with_name("versions.txt"), "3.13", FRAMEWORKS, extra="otlp")


if __name__ == "__main__":
    PINNED.renew()
