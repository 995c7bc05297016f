"""What somebody who installs the package gets, as the distribution's own metadata says it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from test_house import imports_of, name_of, reachable
from test_import_rules import SOURCE

DISTRIBUTION = "otel-llm-sessions"
PUBLIC = {
    "__version__",
    "OpenAISessionsInstrumentor",
    "Session",
    "session",
    "aevaluate",
    "current_session",
    "evaluate",
    "session_trace_id",
    "SessionSpanProcessor",
    "SessionStore",
    "SessionLink",
}
EXTRAS = {"instruments", "otlp", "redis", "cost", "view", "demo", "dev"}


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    return metadata.distribution(DISTRIBUTION)


def entry_point(distribution: metadata.Distribution, group: str) -> metadata.EntryPoint:
    (found,) = distribution.entry_points.select(group=group)
    return found


def test_opentelemetry_instrument_finds_the_instrumentor(distribution: metadata.Distribution) -> None:
    found = entry_point(distribution, "opentelemetry_instrumentor")
    assert (found.name, found.value) == (
        "openai_sessions",
        "otel_llm_sessions.instrumentor:OpenAISessionsInstrumentor",
    )
    assert found.load().__name__ == "OpenAISessionsInstrumentor"


def test_the_command_line_is_installed(distribution: metadata.Distribution) -> None:
    found = entry_point(distribution, "console_scripts")
    assert found.name == "otel-llm-sessions"
    assert callable(found.load())


def test_metadata_names_license_python_and_extras(distribution: metadata.Distribution) -> None:
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.metadata["Requires-Python"] == ">=3.10"
    assert set(distribution.metadata.get_all("Provides-Extra") or []) >= EXTRAS


def test_the_license_text_and_the_type_marker_are_there(distribution: metadata.Distribution) -> None:
    package = importlib.import_module("otel_llm_sessions")
    assert Path(str(package.__file__)).with_name("py.typed").is_file()
    text = next(file for file in distribution.files or [] if file.name == "LICENSE").read_text()
    assert "Apache License" in text


def test_openai_is_never_a_requirement_of_the_package_itself(distribution: metadata.Distribution) -> None:
    required = [line for line in distribution.requires or [] if "extra ==" not in line]
    assert [line for line in required if line.startswith("openai")] == []
    assert any(line.startswith("opentelemetry-sdk") for line in required)


def test_the_version_is_said_once(distribution: metadata.Distribution) -> None:
    from otel_llm_sessions.version import __version__

    assert distribution.version == __version__


def test_the_public_names_are_these_and_no_others() -> None:
    package = importlib.import_module("otel_llm_sessions")
    assert set(package.__all__) == PUBLIC
    assert all(getattr(package, name) is not None for name in PUBLIC)


def test_users_find_capture_spans_for_their_own_tests() -> None:
    testing = importlib.import_module("otel_llm_sessions.testing")
    with testing.capture_spans() as spans:
        assert list(spans) == []


def test_openai_is_not_imported_before_the_application_imports_it() -> None:
    code = (
        "import sys; from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor as I; I().instrument();"
        "import otel_llm_sessions.testing;"
        "print([name for name in sys.modules if name.split('.')[0] == 'openai'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WHERE_TO = """
import os
import grpc

channel, addresses = grpc.insecure_channel, []


def noted(address, *more, **options):
    addresses.append(address)
    return channel(address, *more, **options)


grpc.insecure_channel = noted
from opentelemetry.distro import OpenTelemetryConfigurator, OpenTelemetryDistro

OpenTelemetryDistro().configure()
OpenTelemetryConfigurator().configure()
print(*addresses, flush=True)
os._exit(0)  # nothing is sent there
"""


def test_where_nothing_is_set_all_signals_go_where_readme_says() -> None:
    pytest.importorskip("opentelemetry.distro", reason="the extra otlp is not installed")
    unset = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    asked = subprocess.run([sys.executable, "-c", WHERE_TO], env=unset, capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["localhost:4317"] * 3
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert "Spans, metrics and logs go over gRPC to `localhost:4317`" in readme


def test_the_demo_holds_nothing_that_it_does_not_use() -> None:
    """What only tests need stands under tests/, and so not in the wheel."""
    package = Path(str(importlib.import_module("otel_llm_sessions").__file__)).parent
    code = (
        "import sys, otel_llm_sessions.demo.runner, otel_llm_sessions.demo.provider.server;"
        "print(*(name for name in sys.modules if name.startswith('otel_llm_sessions.')))"
    )
    used = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    files = set((package / "demo").rglob("*.py"))
    named = {"otel_llm_sessions." + ".".join(file.relative_to(package).with_suffix("").parts): file for file in files}
    unused = {name.removesuffix(".__init__") for name in named if not name.endswith(".__main__")} - set(used)
    assert not unused
    assert not [str(file) for file in files if "x-loopback" in file.read_text(encoding="utf-8")]


def test_the_view_holds_nothing_that_no_command_uses() -> None:
    modules = {name_of(file, SOURCE): file for file in SOURCE.rglob("*.py")}
    edges = {name: set(imports_of(file, SOURCE, set(modules))) for name, file in modules.items()}
    used = reachable("otel_llm_sessions.cli", edges)
    viewing = {name for name, file in modules.items() if "view" in file.parts and file.name != "__init__.py"}
    assert len(viewing) > 40
    assert viewing <= used


def test_nothing_says_to_install_the_package_from_an_index_on_which_it_is_not() -> None:
    root = Path(__file__).parents[1]
    files = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("*.yaml")]
    files += [file for folder in ("otel_llm_sessions", "examples") for file in (root / folder).rglob("*.py")]
    assert len(files) > 100
    said = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert len(said) > 3
    assert not [line for line in said if DISTRIBUTION in line.partition("pip install")[2]]
