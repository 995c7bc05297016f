"""Programs that tests run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence

AT_MOST = 60.0
"""Seconds: what runs longer than that on a busy machine does not end."""


def importing() -> dict[str, str]:
    """The variable that has a process find all that can be imported here."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_to_its_end(
    command: Sequence[str], env: Mapping[str, str] | None = None, at_most: float = AT_MOST
) -> subprocess.CompletedProcess[str]:
    """Run a process; return how it ended and what it said."""
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=at_most)


def run_code(
    code: str, *arguments: str, flags: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program's text, however far it is indented; Python gets ``flags``, the program ``arguments``."""
    return run_to_its_end([sys.executable, *flags, "-c", textwrap.dedent(code), *arguments], env)
