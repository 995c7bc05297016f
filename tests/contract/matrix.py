"""Runs tests in environments of their own: ``matrix.py contract`` and ``matrix.py fast``.

`contract` is the client's surface under every openai version that is promised, `fast` the fast tests under every
other Python version than the one that runs this. Environments are made by uv under ``.venvs/`` and made again only when
what goes into them changes. Prints a line for each and ends with a count; exits with 1 if any failed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venvs"
CONSTRAINTS = ROOT / "constraints.txt"
AT_ONCE = 3
"""Environments whose tests run side by side, on two cores: they wait for a third of their time."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
NEWEST = next(line[8:].strip() for line in CONSTRAINTS.read_text().splitlines() if line.startswith("openai=="))
# The promised openai versions and the Python that each is tried on: every Python at least once.
CLIENTS = (
    ("1.66.0", "3.10"),
    ("1.109.1", "3.11"),
    ("2.0.0", "3.12"),
    ("2.54.0", "3.13"),
    ("3.0.0", "3.10"),
    (NEWEST, "3.13"),
)


@dataclass(frozen=True)
class Environment:
    """A Python with packages in it, of the versions that `pins` says, and the tests that run there."""

    name: str
    python: str
    packages: tuple[str, ...]
    tests: tuple[str, ...] = ()
    pins: str = field(default_factory=CONSTRAINTS.read_text)

    @property
    def directory(self) -> Path:
        return HOME / self.name.replace(" ", "-")

    @property
    def interpreter(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def stamp(self) -> str:
        """What the environment is made of, so that a change of it is seen."""
        inputs = (self.python, *self.packages, self.pins, (ROOT / "pyproject.toml").read_text())
        return hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def contract_environments() -> list[Environment]:
    tests = ("-m", "contract", "tests/contract")
    wanted = ("-r", "pyproject.toml", "pytest", "pytest-asyncio")
    return [
        Environment(f"openai {version}", python, (*wanted, f"openai=={version}"), tests) for version, python in CLIENTS
    ]


def fast_environments() -> list[Environment]:
    here = "{}.{}".format(*sys.version_info)  # `make test` has run them there
    tests = ("-n0",)  # by one process each: they run side by side, and each process collects all the tests
    return [Environment(f"python {python}", python, ("-e", ".[dev]"), tests) for python in PYTHONS if python != here]


MATRICES = {"contract": contract_environments, "fast": fast_environments}


class Failed(Exception):
    """An environment could not be made, or its tests failed; the text is what to show."""


def python_candidates(version: str) -> Iterator[Path]:
    """Where an interpreter may be: on the path, and beside the others that pyenv has."""
    for name in (f"python{version}", "python3", "python"):
        yield from (Path(part) / name for part in os.get_exec_path())
    for root in pyenv_roots():
        yield from (Path(found) for found in sorted(glob.glob(f"{root}/versions/{version}.*/bin/python{version}")))


def pyenv_roots() -> Iterator[Path]:
    """Where pyenv may be: where it says, in the home directory (of the environment, of the user), where it runs."""
    if "PYENV_ROOT" in os.environ:
        yield Path(os.environ["PYENV_ROOT"])
    yield Path.home() / ".pyenv"
    yield Path(pwd.getpwuid(os.getuid()).pw_dir) / ".pyenv"
    yield Path(sys.base_prefix).parents[1]
    yield from (Path(part).parent for part in os.get_exec_path() if Path(part).name == "shims")


def find_python(version: str) -> Path:
    """An interpreter of the version that runs; raises Failed if the machine has none."""
    for candidate in dict.fromkeys(python_candidates(version)):
        if candidate.exists() and version_of(candidate) == version:
            return candidate
    raise Failed(f"there is no Python {version} on this machine")


def version_of(python: Path) -> str | None:
    """What the interpreter says it is; None for a stand-in (pyenv has some) that runs nothing."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def make(environment: Environment) -> None:
    """Make the environment, unless it is there as it should be."""
    stamp = environment.directory / "stamp"
    if stamp.exists() and stamp.read_text() == environment.stamp:
        return
    directory = str(environment.directory)
    uv("venv", "--clear", "--python", str(find_python(environment.python)), directory)
    constraints = HOME / f"{environment.directory.name}.constraints"
    constraints.write_text(constraints_for(environment))
    uv("pip", "install", "--python", directory, "-c", str(constraints), *environment.packages)
    stamp.write_text(environment.stamp)


def constraints_for(environment: Environment) -> str:
    """The pins, without that of an openai which the environment has another version of."""
    own = any(package.startswith("openai==") for package in environment.packages)
    return re.sub(r"(?m)^openai==.*\n", "", environment.pins) if own else environment.pins


def uv(*arguments: str) -> None:
    """Run uv; raises Failed with what it says."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Failed("uv is not installed: pip install uv")
    show(
        subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False), "uv " + arguments[0]
    )


def run_tests(environment: Environment) -> str:
    """pytest's closing line; raises Failed with its output."""
    done = subprocess.run(
        [environment.interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", *environment.tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    show(done, "pytest")
    return done.stdout.strip().splitlines()[-1]


def show(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode != 0:
        raise Failed(f"{what} failed:\n{done.stdout}{done.stderr}")


def try_out(environment: Environment) -> bool:
    """Make the environment and run its tests; print how it went."""
    started = time.monotonic()
    try:
        make(environment)
        outcome, passed = run_tests(environment), True
    except Failed as failure:
        outcome, passed = f"FAILED: {failure}", False
    where = "" if environment.python in environment.name else f" on Python {environment.python}"
    print(f"{environment.name + where:32} {time.monotonic() - started:4.0f} s   {outcome}", flush=True)
    return passed


def main() -> int:
    environments = MATRICES[sys.argv[1]]()
    HOME.mkdir(exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # The newest first: they have most to be called.
        passed = list(pool.map(try_out, reversed(environments)))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    if sys.argv[1:] not in [[name] for name in MATRICES]:
        sys.exit(f"usage: matrix.py {'|'.join(MATRICES)}")
    sys.exit(main())
