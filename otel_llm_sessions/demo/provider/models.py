"""The models this server says it has, and the vectors they make."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.errors import ApiError
from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.text import tokens

NAMES = ("gpt-4o-mini", "gpt-4.1", "gpt-5-mini", "text-embedding-3-small")
DIMENSIONS = 16
LARGEST = 4096


def model(name: str) -> Json:
    """A model as the API lists it."""
    return {"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "loopback"}


def list_models(call: Call) -> Json:
    """All models."""
    return {"object": "list", "data": [model(name) for name in NAMES]}


def show_model(call: Call) -> Json:
    """One model; raises ApiError 404 for a name that is not listed."""
    name = call.names["id"]
    if name not in NAMES:
        raise ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return model(name)


def embeddings(call: Call) -> Json:
    """A vector for every input: the same for the same text."""
    given = call.body.get("input")
    inputs = given if isinstance(given, list) and not all(isinstance(part, int) for part in given) else [given]
    size = dimensions(call.body.get("dimensions"))
    data = [embedding(call, index, vector(text, size)) for index, text in enumerate(inputs)]
    asked = sum(map(tokens, inputs))
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return {"object": "list", "data": data, "model": call.model, "usage": usage}


def dimensions(asked: Any) -> int:
    """How long vectors are to be; raises ApiError when a length is asked for that is none."""
    if asked is None:
        return DIMENSIONS
    if not isinstance(asked, int) or not 0 < asked <= LARGEST:
        raise ApiError(400, f"Invalid 'dimensions': {asked!r}", param="dimensions", code="invalid_value")
    return asked


def embedding(call: Call, index: int, numbers: list[float]) -> Json:
    """One vector in the encoding asked for."""
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    in_base64 = call.body.get("encoding_format") == "base64"
    shown: Any = base64.b64encode(packed).decode() if in_base64 else numbers
    return {"object": "embedding", "index": index, "embedding": shown}


def vector(value: Any, size: int) -> list[float]:
    """Numbers between -1 and 1 that depend on nothing but the value."""
    digest = hashlib.shake_128(repr(value).encode()).digest(size)
    return [byte / 127.5 - 1 for byte in digest]
