"""Two turns in every form, with a peer instrumented before us, after us, or without one of the two: run by the tests.

    talk.py PEER first|last|alone|without|bare

`first`: the peer is instrumented before us; `last`: after us; then each is switched off and on again. `alone`: without
us; `without`: us without the peer; `bare`: neither; there opentelemetry-instrument has loaded what it finds and may.

For each form it prints a line of JSON: what the application got. Every span that starts meanwhile says which form it
belongs to.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from peers import PEERS
from talk_forms import AGAIN, APIS, IN_A_BLOCK

FORM = "test.form"

form = ""
"""The one that is being played."""


class Marks(SpanProcessor):
    """Writes on each span during which form it was started."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if form:
            span.set_attribute(FORM, form)


def ours_on() -> None:
    from otel_llm_sessions import OpenAISessionsInstrumentor

    OpenAISessionsInstrumentor().instrument()


def ours_off() -> None:
    from otel_llm_sessions import OpenAISessionsInstrumentor

    OpenAISessionsInstrumentor().uninstrument()


def play(application: Any, name: str, stage: str = "") -> None:
    """Play a form; what the application got is printed."""
    global form
    api, way = name.split()
    form = f"{stage}{name}"
    try:
        got: Any = application.talk(api, way)
    except Exception as error:
        got = repr(error)
    print(json.dumps({"form": form, "got": got}), flush=True)
    form = ""


def play_in_a_block(application: Any) -> None:
    from otel_llm_sessions import session

    with session(IN_A_BLOCK):
        play(application, IN_A_BLOCK, "in a block: ")


def main() -> None:
    name, order = sys.argv[1:]
    peer = PEERS[name]
    loads: dict[str, tuple[Callable[[], None], ...]] = {
        "first": (peer.on, ours_on),
        "last": (ours_on, peer.on),
        "alone": () if peer.entries else (peer.on,),
    }
    for load in loads.get(order, ()):
        load()
    provider: Any = trace.get_tracer_provider()  # Logfire brings its own
    if hasattr(provider, "add_span_processor"):
        provider.add_span_processor(Marks())
    application = importlib.import_module(peer.application)
    for api in APIS:
        for way in peer.ways:
            play(application, f"{api} {way}")
    if order not in loads or order == "alone":
        return
    play_in_a_block(application)
    if peer.off is not None:
        switches = {"theirs off": peer.off, "theirs on": peer.on, "ours off": ours_off, "ours on": ours_on}
        for stage, switch in switches.items():
            switch()
            for each in AGAIN:
                if each.split()[1] in peer.ways:
                    play(application, each, f"{stage}: ")


if __name__ == "__main__":
    main()
