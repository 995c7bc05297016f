"""An application that talks on, a session of three turns after the other, until its input ends: run by the tests.

For each session it prints a line of JSON: its id, and how long each call took in seconds. A call that fails ends it.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from openai import OpenAI

TURNS = 3
PAUSE = 0.02
"""Seconds between two calls."""

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
client = OpenAI(max_retries=0)
while not ended.is_set():
    previous, took = None, []
    names = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        reply = client.responses.create(model="gpt-4o-mini", input="Hello", previous_response_id=previous)
        took.append(time.perf_counter() - begun)
        previous = reply.id
        names.append(reply.id)
        time.sleep(PAUSE)
    print(json.dumps({"responses": names, "seconds": took}), flush=True)
