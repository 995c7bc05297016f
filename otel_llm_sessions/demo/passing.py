"""Where else the demo's spans go: a collector or backend that the environment names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from otel_llm_sessions.view.server.forwarding import Forwarding

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
GRPC, HTTP = ":4317", ":4318"
"""The ports at which OTLP is received over gRPC and over HTTP."""
CREDENTIALS: Final = re.compile(r"(?<=://)[^/]*@|^[^/]*@")


class PassedOn(NamedTuple):
    """Where everything goes as well.

    Attributes:
        url: the address, for OTLP over HTTP; empty for none.
        said: what to say of it, in a line; empty where nothing is asked for.
    """

    url: str
    said: str


def passed_on(environment: Mapping[str, str]) -> PassedOn:
    """Read from the environment of the demo where everything is to go as well.

    Applications send over gRPC unless they are told otherwise, the demo over HTTP: of an address with gRPC's port it
    takes the one beside. An address without a scheme, which gRPC allows, is one of ``http``.
    """
    asked = environment.get(ENDPOINT, "").strip()
    if not asked:
        return PassedOn("", "")
    url = asked if "://" in asked else f"http://{asked}"
    shown = CREDENTIALS.sub("", asked)
    try:
        parts = urlsplit(url)
        is_grpc = parts.netloc.endswith(GRPC) and not environment.get(PROTOCOL, "").startswith("http")
        if is_grpc:
            url = parts._replace(netloc=parts.netloc.removesuffix(GRPC) + HTTP).geturl()
        Forwarding(url)
    except ValueError:
        expected = "expected an address as http://collector:4318 (OTLP over HTTP)"
        return PassedOn("", f"They are not passed on: {ENDPOINT}={shown} is not valid: {expected}")
    why = f"as {ENDPOINT} says" if not is_grpc else f"by HTTP, for {ENDPOINT}={shown} is for gRPC"
    return PassedOn(url, f"They are passed on to {CREDENTIALS.sub('', url)}, {why}.")
