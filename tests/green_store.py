"""A program whose threads become greenlets: many of them ask a shared store, which may have been used before.

Arguments: ``gevent`` or ``eventlet``; the store's URL; when it is patched: ``before`` or ``after`` our import, or once
the store has been ``used``. Prints how many answers came, and whether they were right and others ran meanwhile.
"""

from __future__ import annotations

import faulthandler
import platform
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

GREENLETS, TURNS = 20, 5


def patch(library: str) -> tuple[Callable[..., Any], Callable[[float], None]]:
    if library == "gevent":
        import gevent
        from gevent import monkey

        monkey.patch_all()
        return gevent.spawn, gevent.sleep
    import eventlet

    eventlet.monkey_patch()
    return eventlet.spawn, eventlet.sleep


def run(library: str, url: str, when: str) -> None:
    green = patch(library) if when == "before" else None
    from store_kit import a_link

    from otel_llm_sessions.stores.opening import open_store

    store = open_store(url)
    if when == "used":
        store.put(["s:native"], a_link())
        assert store.get_all(["s:native"])[0] is not None
    spawn, sleep = green or patch(library)
    right: list[bool] = []
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            sleep(0.001)

    def turns(name: int) -> None:
        for turn in range(1, TURNS + 1):
            store.put([f"s:{name}"], a_link(turn))
            found = store.get_all([f"s:{name}"])[0]
            right.append(found is not None and found.turn == turn)
        right.append(store.claim(f"root:{name}"))

    spawn(tick)
    greenlets = [spawn(turns, name) for name in range(GREENLETS)]
    for greenlet in greenlets:
        greenlet.join() if library == "gevent" else greenlet.wait()
    deadline = time.monotonic() + 10
    while not store.is_up and time.monotonic() < deadline:  # type: ignore[attr-defined]
        sleep(0.02)
    store.close()
    print(len(right), all(right), ticks > 1, store.is_up)  # type: ignore[attr-defined]


if __name__ == "__main__":
    platform.uname()  # by a subprocess, which is not for a patched process
    faulthandler.dump_traceback_later(30, exit=True)
    warnings.simplefilter("ignore", DeprecationWarning)
    run(*sys.argv[1:])
