"""An environment for each instrumentation that a pipeline may already have, with the versions that `versions.txt` pins.

``python tests/beside/environments.py`` writes the newest versions into that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.pinned import Pinned

# What a user installs of each, besides the client.
PACKAGES = {
    "genai-openai": ("opentelemetry-instrumentation-genai-openai", "openai"),
    # 2.4b0 imports httpx, which openai 3 does without, and what util-genai had before 1.0.
    "openai-v2": ("opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai<1", "httpx", "openai"),
    "openllmetry": ("opentelemetry-instrumentation-openai", "openai"),
    "openinference": ("openinference-instrumentation-openai", "openai"),
    "elastic": ("elastic-opentelemetry-instrumentation-openai", "openai"),
    "langfuse": ("langfuse", "openai"),
    "logfire": ("logfire", "openai"),
    "openlit": ("openlit", "openai"),
    "http": (
        "opentelemetry-instrumentation-httpx",
        "opentelemetry-instrumentation-requests",
        "requests",
        "openai",
    ),
    "fastapi": ("opentelemetry-instrumentation-fastapi", "fastapi", "openai"),
    "celery": ("opentelemetry-instrumentation-celery", "celery", "openai"),
    "langchain": ("opentelemetry-instrumentation-langchain", "langchain-openai"),  # OpenLLMetry's
    "openinference-langchain": ("openinference-instrumentation-langchain", "langchain-openai"),
    "openai-agents": ("opentelemetry-instrumentation-genai-openai-agents", "openai-agents"),
    "sentry": ("sentry-sdk", "openai"),
    "ddtrace": ("ddtrace", "openai"),
    "newrelic": ("newrelic", "openai"),
}
PINNED = Pinned("beside", Path(__file__).with_name("versions.txt"), "3.13", PACKAGES, extra="otlp")


if __name__ == "__main__":
    PINNED.renew()
