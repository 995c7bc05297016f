"""README's own commands, word for word, in an environment made by them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import ROOT, Collector, Jaeger, until

SECTION = re.search(r"(?m)^## In your own application\n(.*?)^## ", (ROOT / "README.md").read_text(), re.S)
assert SECTION is not None
INSTALL, RUN, *FOR_TRACES_ONLY = re.findall(r"(?m)^\$ (.*)$", SECTION[1].partition("\n### ")[0])
PIP = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_COMPILE": "0"}
"""Python compiles what it imports, which is a tenth of what pip would compile."""
CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "otel_llm_sessions", "examples")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a user's app.py in it, and an environment with what README installs and the user has."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in CHECKOUT:
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copyfile)(place, directory / name)
    shutil.copyfile(ROOT / "examples" / "litellm_responses.py", directory / "app.py")
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    for command in (INSTALL, "pip install openai"):
        installed = run(directory, PIP, command)
        assert installed.returncode == 0, installed.stderr
    return directory


def run(checkout: Path, environment: dict[str, str], *commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands as somebody who types them, in the checkout and with its environment active."""
    path = f"{checkout / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    script = "\n".join(commands)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_readme_s_commands_print_no_error_and_send_everything_to_a_collector(
    checkout: Path, environment: Callable[..., dict[str, str]], collector: Collector, jaeger: Jaeger
):
    done = run(checkout, environment(collector.grpc, "unused"), RUN)
    assert (done.returncode, done.stderr) == (0, "")
    is_session_of(jaeger, "my-app")


def test_readme_s_commands_for_a_backend_of_traces_print_no_error_on_jaeger(
    checkout: Path, environment: Callable[..., dict[str, str]], jaeger: Jaeger
):
    to_jaeger = environment(jaeger.grpc, "unused")
    assert FOR_TRACES_ONLY[-1] == RUN
    assert "UNIMPLEMENTED" in run(checkout, to_jaeger, RUN).stderr
    done = run(checkout, to_jaeger, *[line.replace("my-app", "traces-only") for line in FOR_TRACES_ONLY])
    assert (done.returncode, done.stderr) == (0, "")
    is_session_of(jaeger, "traces-only")


def is_session_of(jaeger: Jaeger, service: str) -> None:
    """Fail unless Jaeger lists a session of two turns, by what README tells to fill in."""
    fields = dict(re.findall(r"(llm_session\.\w+)=(\w+)", SECTION[1]))
    assert set(fields) == {"llm_session.root", "llm_session.part"}
    (session,) = until(lambda: jaeger.find(service, **fields))
    assert len(until(lambda: whole if len(whole := jaeger.trace(session["traceID"])["spans"]) == 3 else None)) == 3
    (found,) = {tag["value"] for span in session["spans"] for tag in span["tags"] if tag["key"] == "session.id"}
    assert jaeger.find(service, **{"session.id": found})
