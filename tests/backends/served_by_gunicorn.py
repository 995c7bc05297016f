"""A WSGI application that makes a model call for each request: what gunicorn serves in the test."""

from __future__ import annotations

from openai import OpenAI


def app(environ, start_response):
    """Answer with the response's id; the path names the session."""
    headers = {"x-session-id": environ["PATH_INFO"].strip("/")}
    with OpenAI() as client:
        reply = client.responses.create(model="gpt-4o-mini", input="Hello", extra_headers=headers)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [reply.id.encode()]
