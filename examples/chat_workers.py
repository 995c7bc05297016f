"""A chat service run by four worker processes: a visitor's turns land on any of them, and the session stays one.

The service names no session and keeps no history: a cookie holds the id of the visitor's last response, the next turn
continues from it, and what ties the turns together is what the workers share, Redis.

    # in a checkout of this repository
    pip install ".[instruments,otlp,redis]" fastapi uvicorn opentelemetry-instrumentation-fastapi
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    export OTEL_LLM_SESSIONS_STORE=redis://localhost:6379
    opentelemetry-instrument --service_name chat-workers python examples/chat_workers.py
    curl -c jar -b jar -d '{"message": "hello"}' -H 'content-type: application/json' localhost:8000/chat

With --drive the program is its own audience: four workers on a free port, three visitors with four messages each.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar

import uvicorn
from fastapi import Cookie, FastAPI, Response
from openai import AsyncOpenAI, omit
from opentelemetry import metrics, trace
from pydantic import BaseModel

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
WORKERS = 4
MESSAGES = ("Hello!", "Where should I go for a weekend?", "What should I pack?", "Thanks, goodbye.")


@asynccontextmanager
async def flushing(app: FastAPI) -> AsyncIterator[None]:
    """Send what is left when the service stops.

    uvicorn raises the signal that stopped it once more, and SIGTERM then ends the process before OpenTelemetry's own
    handler at exit, with up to five seconds of spans.
    """
    yield
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if hasattr(provider, "force_flush"):  # without opentelemetry-instrument there is nothing to send
            provider.force_flush()


app = FastAPI(lifespan=flushing)
client = AsyncOpenAI()


class Question(BaseModel):
    message: str


@app.post("/chat")
async def chat(question: Question, response: Response, last: str = Cookie("")) -> dict[str, str | int]:
    reply = await client.responses.create(
        model=MODEL, input=question.message, previous_response_id=last or omit, store=True
    )
    response.set_cookie("last", reply.id)
    return {"answer": reply.output_text, "worker": os.getpid()}


def visit(address: str, name: str) -> None:
    """One visitor: a few messages over HTTP, each on a connection of its own, with a cookie jar like a browser's."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    for message in MESSAGES:
        body = json.dumps({"message": message}).encode()
        request = urllib.request.Request(f"{address}/chat", body, {"Content-Type": "application/json"})
        with browser.open(request, timeout=60) as reply:
            said = json.load(reply)
            print(f"{name} (worker {said['worker']}): {said['answer']}", flush=True)


def drive() -> None:
    """Start the workers on a free port, let three visitors come, stop."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)  # visitors who come before the workers are ready wait for them
        descriptor = listener.fileno()
        serve = [sys.executable, "-m", "uvicorn", "--app-dir", os.path.dirname(os.path.abspath(__file__))]
        options = ["--workers", str(WORKERS), "--fd", str(descriptor), "--log-level", "warning"]
        service = subprocess.Popen([*serve, *options, "chat_workers:app"], pass_fds=[descriptor])
        try:
            with ThreadPoolExecutor() as visitors:
                address = f"http://127.0.0.1:{listener.getsockname()[1]}"
                list(visitors.map(lambda name: visit(address, name), ("anna", "ben", "chris")))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()


if __name__ == "__main__":
    drive() if "--drive" in sys.argv else uvicorn.run("chat_workers:app", workers=WORKERS)
