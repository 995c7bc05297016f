"""Shared stores under gevent and eventlet, whichever was there first: no greenlet holds up all others for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import green_store
import pytest
from programs import importing

SECONDS = 60


def printed_by(*arguments: str) -> tuple[int, str]:
    """Run the program in a process group of its own, which ends in any case."""
    environment = os.environ | importing()
    with subprocess.Popen(
        [sys.executable, green_store.__file__, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            return program.wait(SECONDS), program.communicate()[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after", "used"])
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_share_a_store(request, tmp_path: Path, library, kind, when):
    pytest.importorskip(library)
    sqlite = f"sqlite:///{tmp_path / 'sessions.db'}"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("_emptied")("redis").url
    status, printed = printed_by(library, url, when)
    last = printed.splitlines()[-1:]
    each = green_store.TURNS + 1
    assert (status, last) == (0, [f"{green_store.GREENLETS * each} True True True"]), printed
    # A thread from before the patch that ends complains of it, as everybody sees on the server's console.
    assert "Traceback" not in printed
