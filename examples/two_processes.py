"""One conversation over two processes that share nothing: the session travels through the provider.

The first process asks a question and passes on only the response's id, as a job queue would; the second goes on from
there. With `metadata` the session travels in the stored response's metadata, and one `retrieve` beside the request
tells the second process everything: no database, no shared file.

    # in a checkout of this repository
    pip install ".[instruments,otlp]"
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    export OTEL_LLM_SESSIONS_PROPAGATE=metadata OTEL_LLM_SESSIONS_PROVIDER_LOOKUP=true
    opentelemetry-instrument --service_name two-processes python examples/two_processes.py

Without an argument the program starts both processes, one after the other; `ask` and `follow-up ID` are the two.
"""

import os
import subprocess
import sys

from openai import OpenAI

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


def ask() -> None:
    response = OpenAI().responses.create(model=MODEL, input="Name a city worth a weekend.")
    print(response.output_text, file=sys.stderr)
    print(response.id)


def follow_up(response_id: str) -> None:
    response = OpenAI().responses.create(
        model=MODEL, input="What should I not miss there?", previous_response_id=response_id
    )
    print(response.output_text, file=sys.stderr)
    print(response.id)


def in_another_process(*arguments: str) -> str:
    """Run this program anew, and return the response id that it prints."""
    return subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


if sys.argv[1:] == ["ask"]:
    ask()
elif sys.argv[1:2] == ["follow-up"]:
    follow_up(sys.argv[2])
else:
    in_another_process("follow-up", in_another_process("ask"))
