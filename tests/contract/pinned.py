"""Environments whose packages have the versions that a file pins: a section for each, written by ``renew``."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.matrix import CONSTRAINTS, HOME, Environment, make, uv


@dataclass(frozen=True)
class Pinned:
    """What a kind of environments holds: what a user installs of each, and what of this package besides."""

    kind: str
    versions: Path
    python: str
    packages: Mapping[str, tuple[str, ...]]
    extra: str | None = None

    def sections(self) -> dict[str, str]:
        """The lines of each environment's section."""
        parts = self.versions.read_text().split("\n[")[1:]
        return {name: lines for name, _, lines in (part.partition("]\n") for part in parts)}

    def version(self, name: str, package: str) -> str:
        """The version of a package in an environment."""
        lines = (line.partition("==") for line in self.sections()[name].splitlines())
        return next(found for listed, _, found in lines if listed == package)

    def environment(self, name: str) -> Environment:
        """The environment of a name."""
        ours = ("-e", f".[{self.extra}]") if self.extra else ()
        packages = (*ours, *self.packages[name])
        return Environment(f"{self.kind} {name}", self.python, packages, pins=self.sections()[name])

    def made(self, name: str) -> Environment:
        """The environment, there as it should be; of those who come at once one makes it, and the others wait."""
        environment = self.environment(name)
        HOME.mkdir(exist_ok=True)
        with (HOME / f"{environment.directory.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make(environment)
        return environment

    def renew(self) -> None:
        """Write the newest versions; what our own tests run with is preferred, so that environments share packages."""
        head = self.versions.read_text().split("\n[")[0]
        sections = [f"[{name}]\n{self._newest(name)}" for name in self.packages]
        self.versions.write_text("\n".join([head.rstrip("\n") + "\n", *sections]))

    def _newest(self, name: str) -> str:
        """The newest versions of all that an environment holds."""
        ours = (f"otel-llm-sessions[{self.extra}] @ .",) if self.extra else ()
        with tempfile.TemporaryDirectory() as folder:
            wanted, found = Path(folder, "wanted.in"), Path(folder, "found.txt")
            wanted.write_text("\n".join([*ours, *self.packages[name]]))
            found.write_text(CONSTRAINTS.read_text())
            uv("pip", "compile", "-q", "--python-version", self.python, "--no-annotate", "--no-header",
               "--no-emit-package", "otel-llm-sessions", str(wanted), "-o", str(found))  # fmt: skip
            return found.read_text()
