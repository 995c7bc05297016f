"""An environment for each pipeline of docs/existing-pipelines.md, with the versions that `versions.txt` pins.

``python tests/pipelines/environments.py`` writes the newest versions into that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.pinned import Pinned

PIPELINES = {
    "own": ("opentelemetry-sdk[file-configuration]", "openai"),
    "flask": ("gunicorn", "gevent", "flask", "opentelemetry-instrumentation-flask", "openai"),
    "django": ("gunicorn", "django", "opentelemetry-instrumentation-django", "openai"),
    "fastapi": ("uvicorn", "gunicorn", "fastapi", "opentelemetry-instrumentation-fastapi", "openai"),
    "celery": ("celery[redis]", "opentelemetry-instrumentation-celery", "openai"),
    "lambda": ("awslambdaric", "opentelemetry-instrumentation-aws-lambda", "openai"),
}
PINNED = Pinned("pipelines", Path(__file__).with_name("versions.txt"), "3.13", PIPELINES, extra="otlp,redis")


if __name__ == "__main__":
    PINNED.renew()
