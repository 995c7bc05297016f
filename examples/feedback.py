"""A chat service that takes its visitors' thumbs up or down: `await aevaluate(...)` puts them into the session's trace.

    # in a checkout of this repository
    pip install ".[instruments,otlp]" fastapi uvicorn opentelemetry-instrumentation-fastapi
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    opentelemetry-instrument --service_name feedback python examples/feedback.py
    curl -c jar -b jar -d '{"message": "hello"}' -H 'content-type: application/json' localhost:8000/chat
    curl -c jar -b jar -d '{"id": "resp_...", "up": true}' -H 'content-type: application/json' localhost:8000/feedback

A visitor may judge answers that were his own, and no others: ids come from outside. With a store that processes share
(OTEL_LLM_SESSIONS_STORE), the process that takes the feedback need not be the one that answered.

With --drive the program is its own audience: it starts the service on a free port, lets two visitors talk to it and say
what they think of the answers, and ends.
"""

import json
import os
import sys
import threading
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar

import uvicorn
from fastapi import Cookie, FastAPI, HTTPException, Response
from openai import AsyncOpenAI
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from pydantic import BaseModel

from otel_llm_sessions import aevaluate

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


@asynccontextmanager
async def flushing(app: FastAPI) -> AsyncIterator[None]:
    """Send what is left when the service stops (see web_service.py)."""
    yield
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()):
        if hasattr(provider, "force_flush"):  # without opentelemetry-instrument there is nothing to send
            provider.force_flush()


app = FastAPI(lifespan=flushing)
client = AsyncOpenAI()
answers: defaultdict[str, list[str]] = defaultdict(list)
"""The ids of each visitor's answers; a database's, where there are several processes."""


class Question(BaseModel):
    message: str


class Feedback(BaseModel):
    id: str
    up: bool


@app.post("/chat")
async def chat(question: Question, response: Response, visitor: str = Cookie("")) -> dict[str, str]:
    visitor = visitor or str(uuid.uuid4())
    response.set_cookie("visitor", visitor)
    before = {"previous_response_id": answers[visitor][-1]} if answers[visitor] else {}
    reply = await client.responses.create(model=MODEL, input=question.message, **before)
    answers[visitor].append(reply.id)
    return {"id": reply.id, "answer": reply.output_text}


@app.post("/feedback", status_code=204)
async def feedback(given: Feedback, visitor: str = Cookie("")) -> None:
    if given.id not in answers.get(visitor, ()):
        raise HTTPException(404)
    await aevaluate("thumbs", response_id=given.id, score=int(given.up), label="up" if given.up else "down")


def visit(address: str, name: str) -> None:
    """One visitor: two messages over HTTP with a cookie jar like a browser's, of which the second answer is liked."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def post(path: str, **body: object) -> bytes:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
        with browser.open(request, timeout=60) as reply:
            return reply.read()

    for message, up in ((f"Hello, I am {name}.", False), ("What can you do?", True)):
        answer = json.loads(post("/chat", message=message))
        post("/feedback", id=answer["id"], up=up)
        print(f"{name}: {answer['answer']} ({'thumbs up' if up else 'thumbs down'})")


def drive() -> None:
    """Serve on a free port, let two visitors come, stop."""
    config = uvicorn.Config(app, port=0, log_level="warning")
    listener = config.bind_socket()
    listener.listen()  # visitors who come before the service is ready wait for it
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    serving.start()
    try:
        for name in ("anna", "ben"):
            visit(f"http://127.0.0.1:{listener.getsockname()[1]}", name)
    finally:
        server.should_exit = True
        serving.join()


if __name__ == "__main__":
    drive() if "--drive" in sys.argv else uvicorn.run(app)
