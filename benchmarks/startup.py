"""What the package adds to the start of a process that never imports openai."""

from __future__ import annotations

import os
import statistics
import sys
from importlib.metadata import entry_points
from pathlib import Path

ENTRY_POINT = "openai_sessions"
GROUP = "opentelemetry_instrumentor"
LOADER = Path(sys.executable).with_name("opentelemetry-instrument")
RUNS = 15
EXPORTERS = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


def measure() -> float | None:
    """Return the milliseconds of CPU time (user and system) that the entry point adds; None if not installed.

    All other instrumentations are disabled on both sides; the two sides take turns.
    """
    names = {point.name for point in entry_points(group=GROUP)}
    if ENTRY_POINT not in names or not LOADER.exists():
        return None
    _cpu_of_start(names)
    differences = [_cpu_of_start(names - {ENTRY_POINT}) - _cpu_of_start(names) for _ in range(RUNS)]
    return 1000 * statistics.median(differences)


def _cpu_of_start(disabled: set[str]) -> float:
    """Start an instrumented Python that does nothing; return its seconds of CPU time."""
    environment = {**os.environ, **EXPORTERS, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(sorted(disabled))}
    command = [str(LOADER), sys.executable, "-c", "import sys; sys.exit('openai' in sys.modules)"]
    process = os.posix_spawn(command[0], command, environment)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit("an instrumented process that does not use openai failed, or imported it")
    return usage.ru_utime + usage.ru_stime
