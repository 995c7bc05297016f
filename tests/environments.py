"""Makes the environments that tests run in, side by side: each is made once, and again when what goes into it changes.

``python tests/environments.py`` prints a line for each, and exits with 1 if one of them cannot be made. The tests make
what they lack as well; here uv waits for several downloads at once, and links what one has fetched into all others.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from backends.environments import PINNED as BACKENDS
from beside.environments import PINNED as PEERS
from contract.matrix import HOME, MATRICES, Environment, Failed, make
from frameworks.environments import PINNED as FRAMEWORKS
from pipelines.environments import PINNED as PIPELINES

AT_ONCE = 6


def environments() -> list[Environment]:
    """All of them, the largest first."""
    kinds = (BACKENDS, FRAMEWORKS, PEERS, PIPELINES)
    pinned = [kind.environment(name) for kind in kinds for name in kind.packages]
    return [*pinned, *(environment for matrix in MATRICES.values() for environment in matrix())]


def made(environment: Environment) -> bool:
    """Make one, unless it is there; print how it went."""
    begun, outcome = time.monotonic(), ""
    try:
        make(environment)
    except Failed as failure:
        outcome = f"   FAILED: {failure}"
    print(f"{environment.name:32} {time.monotonic() - begun:4.0f} s{outcome}", flush=True)
    return not outcome


def main() -> int:
    """Make them all; return the exit code."""
    HOME.mkdir(exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return 0 if all(list(pool.map(made, environments()))) else 1


if __name__ == "__main__":
    sys.exit(main())
