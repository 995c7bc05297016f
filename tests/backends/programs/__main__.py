"""Builds the real OpenTelemetry Collector and Jaeger v2 from Go modules, once: ``python tests/backends/programs``.

They land in ``.backends/`` and are made again only when what they are made of changes. Without Go this is said in one
line, which is a failure where everything has to be there (``CI`` is set). ``--sums`` writes the hashes of the modules
anew, after a version in ``pins.py`` was changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pins

HERE = Path(__file__).parent
SUMS = HERE / "sums"
CACHE = HERE.parents[2] / ".backends"
GO_VERSION = "1.26"


class Failed(Exception):
    """A program could not be built; the text is what to show."""


def main() -> int:
    """Build what is not there yet; return the exit code."""
    if shutil.which("go") is None:
        print("Go is not installed: the Collector and Jaeger are not built, the tests against them do not run")
        return 1 if "CI" in os.environ else 0
    try:
        for name, build in {"otelcol": build_collector, "jaeger": build_jaeger}.items():
            _once(name, build)
    except Failed as failure:
        print(failure)
        return 1
    try:
        _once("otelcol-routing", build_router)
    except Failed as failure:  # it needs the modules of Kubernetes and AWS, which are not to be had everywhere
        print(f"the Collector that routes to others is not built, its tests do not run: {failure}")
    return 0


def build_collector(program: Path) -> None:
    """The Collector that most tests run."""
    _build_collector("collector", pins.COMPONENTS, program)


def build_router(program: Path) -> None:
    """The one that stands before several others."""
    _build_collector("router", pins.ROUTER_COMPONENTS, program)


def _build_collector(name: str, components: Mapping[str, Mapping[str, str]], program: Path) -> None:
    """Let the collector's own builder write the collector's source, and compile that."""
    with_builder = Module("builder", pins.BUILDER_MODULES)
    builder = with_builder.directory / "ocb"
    with_builder.compile(pins.BUILDER, builder)
    collector = Module(name, pins.modules(components))
    manifest = with_builder.directory / f"{name}.yaml"
    manifest.write_text(_manifest(collector.directory, components))
    # Its own `go mod tidy` cannot finish: some modules' tests need modules that are not to be had.
    _run(builder, "--config", manifest, "--skip-compilation", "--skip-get-modules", within=with_builder.directory)
    collector.compile(".", program)


def build_jaeger(program: Path) -> None:
    """Compile Jaeger v2 as it is."""
    Module("jaeger", pins.JAEGER_MODULES, pins.JAEGER_REPLACED).compile(pins.JAEGER_PROGRAM, program)


class Module:
    """A Go module of our own that requires others, in a directory of its own."""

    def __init__(self, name: str, required: Mapping[str, str], replaced: Mapping[str, str] | None = None) -> None:
        self.directory = CACHE / "src" / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sums = SUMS / f"{name}.sum"
        lines = [f"module {name}", f"go {GO_VERSION}"]
        lines += [f"require {module} {version}" for module, version in required.items()]
        lines += [f"replace {module} => {module} {version}" for module, version in (replaced or {}).items()]
        (self.directory / "go.mod").write_text("\n".join(lines) + "\n")
        (self.directory / "go.sum").write_text(self._sums.read_text() if self._sums.exists() else "")

    def compile(self, package: str, program: Path) -> None:
        """Compile a package of what is required; raises Failed when a module's hash is none that we know."""
        options = ["-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program]
        _run("go", "build", *options, package, within=self.directory)
        found = "".join(sorted((self.directory / "go.sum").read_text().splitlines(keepends=True)))
        if "--sums" in sys.argv:
            self._sums.write_text(found)
        elif found != self._sums.read_text():
            program.unlink()
            raise Failed(f"{self._sums} lacks hashes of modules; if the pins were changed: {sys.argv[0]} --sums")


def _manifest(source: Path, components: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["dist:", "  name: otelcol", f"  version: {pins.COLLECTOR[1:]}", f"  output_path: {source}"]
    for section, modules in components.items():
        lines += [f"{section}:", *(f"  - gomod: {module} {version}" for module, version in modules.items())]
    return "\n".join(lines) + "\n"


def _once(name: str, build) -> None:
    program, stamp = CACHE / name, CACHE / f"{name}.stamp"
    if program.exists() and stamp.exists() and stamp.read_text() == _inputs() and "--sums" not in sys.argv:
        return
    print(f"Building {name} from Go modules, once: a few minutes", flush=True)
    begun = time.monotonic()
    build(program)
    stamp.write_text(_inputs())
    print(f"{name} is built, in {time.monotonic() - begun:.0f} s", flush=True)


def _inputs() -> str:
    files = [HERE / "pins.py", HERE / "__main__.py", *sorted(SUMS.glob("*.sum"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _run(*command: str | Path, within: Path) -> None:
    # Go takes the version of itself that is here.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(command, cwd=within, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
