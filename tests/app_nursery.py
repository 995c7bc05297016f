"""What the processes of a fleet are forked from: all that they import, and the client's first calls, have been done.

Eight processes that each do so themselves take 9 s of CPU time. Nothing is instrumented here, and no thread is left.
"""

from __future__ import annotations

from app_process import create
from openai import DefaultHttpxClient, OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from otel_llm_sessions.demo.provider.server import ProviderServer

WHOLE = {"chat": {"messages": [{"role": "user", "content": "Hello"}]}, "responses": {"input": "Hello"}}

with ProviderServer() as server, DefaultHttpxClient(verify=False) as http:
    client = OpenAI(base_url=server.base_url, api_key="test", http_client=http)
    for api, arguments in WHOLE.items():
        create(client, {"api": api, "arguments": arguments})
        list(create(client, {"api": api, "arguments": {**arguments, "stream": True}}))
OTLPSpanExporter().shutdown()
