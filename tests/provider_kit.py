"""What tests of the loopback server share."""

import http.client
import json
from urllib.parse import urlsplit

MODEL = "gpt-4o-mini"

HELLO = [{"role": "user", "content": "Tell me about tea."}]

RAIN = [{"role": "user", "content": "What is the weather in Lisbon?"}]

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


def mode(text, **more):
    return {"x-loopback-mode": text, **more}


def chat(client, asked="", messages=HELLO, **given):
    return client.chat.completions.create(model=MODEL, messages=messages, extra_headers=mode(asked), **given)


def respond(client, asked="", **given):
    given.setdefault("input", "Tell me about tea.")
    return client.responses.create(model=MODEL, extra_headers=mode(asked), **given)


class Raw:
    """A request without a client library: status, headers and the exact body that came back."""

    def __init__(self, server, path="/v1/responses", body=None, headers=None, method="POST"):
        self.connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
        payload = {"model": MODEL, "input": "Hi", "messages": HELLO} if body is None else body
        self.connection.request(method, path, json.dumps(payload), headers or {})

    def __enter__(self):
        self.reply = self.connection.getresponse()
        return self.reply

    def __exit__(self, *_):
        self.reply.close()
        self.connection.close()
