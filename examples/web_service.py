"""A chat service with one session per visitor: a cookie says who it is, `with session(visitor)` names the session.

    # in a checkout of this repository
    pip install ".[instruments,otlp]" fastapi uvicorn opentelemetry-instrumentation-fastapi
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for any other OpenAI-compatible server
    opentelemetry-instrument --service_name web-service python examples/web_service.py
    curl -c jar -b jar -d '{"message": "hello"}' -H 'content-type: application/json' localhost:8000/chat

With --drive the program is its own audience: it starts the service on a free port, lets three visitors talk to it at
the same time, and ends.
"""

import json
import os
import sys
import threading
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar

import uvicorn
from fastapi import Cookie, FastAPI, Response
from openai import AsyncOpenAI
from opentelemetry import metrics, trace
from pydantic import BaseModel

from otel_llm_sessions import session

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


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
histories: defaultdict[str, list] = defaultdict(list)


class Question(BaseModel):
    message: str


@app.post("/chat")
async def chat(question: Question, response: Response, visitor: str = Cookie("")) -> dict[str, str]:
    visitor = visitor or str(uuid.uuid4())
    response.set_cookie("visitor", visitor)
    messages = histories[visitor]
    messages.append({"role": "user", "content": question.message})
    with session(visitor):
        completion = await client.chat.completions.create(model=MODEL, messages=messages)
    answer = completion.choices[0].message.content or ""
    messages.append({"role": "assistant", "content": answer})
    return {"answer": answer}


def visit(address: str, name: str) -> None:
    """One visitor: two messages over HTTP, with a cookie jar like a browser's."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    for message in (f"Hello, I am {name}.", "What can you do?"):
        body = json.dumps({"message": message}).encode()
        request = urllib.request.Request(f"{address}/chat", body, {"Content-Type": "application/json"})
        with browser.open(request, timeout=60) as reply:
            print(f"{name}: {json.load(reply)['answer']}")


def drive() -> None:
    """Serve on a free port, let three visitors come, stop."""
    config = uvicorn.Config(app, port=0, log_level="warning")
    listener = config.bind_socket()
    listener.listen()  # visitors who come before the service is ready wait for it
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    serving.start()
    try:
        with ThreadPoolExecutor() as visitors:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            list(visitors.map(lambda name: visit(address, name), ("anna", "ben", "chris")))
    finally:
        server.should_exit = True
        serving.join()


if __name__ == "__main__":
    drive() if "--drive" in sys.argv else uvicorn.run(app)
