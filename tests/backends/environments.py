"""An environment for each backend that comes from PyPI, with the versions that `versions.txt` pins.

``python tests/backends/environments.py`` makes those that are not there yet; with ``--renew`` it writes the newest
versions into that file before.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.matrix import HOME, Failed, make
from contract.pinned import Pinned

# What a user installs of each.
BACKENDS = {"phoenix": ("arize-phoenix",), "mlflow": ("mlflow",)}
PINNED = Pinned("backend", Path(__file__).with_name("versions.txt"), "3.13", BACKENDS)


def program(backend: str, name: str) -> Path:
    """A program in a backend's environment."""
    return PINNED.environment(backend).directory / "bin" / name


def main() -> int:
    """Make the environments that are not there as they should be; return the exit code."""
    if "--renew" in sys.argv:
        PINNED.renew()
    HOME.mkdir(exist_ok=True)
    for name in BACKENDS:
        begun = time.monotonic()
        try:
            make(PINNED.environment(name))
        except Failed as failure:
            print(failure)
            return 1
        print(f"{name} {PINNED.version(name, BACKENDS[name][0])} is installed, in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
