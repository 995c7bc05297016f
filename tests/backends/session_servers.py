"""The real Phoenix and the real MLflow as processes of a test's own, read by the APIs that their pages read."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from backends.environments import program
from servers import PATIENCE, Server, status
from store_kit import free_port

STARTS_WITHIN = 300.0
"""Seconds: both are large programs, and make their tables when they start for the first time."""

FIRST_EXPERIMENT = "x-mlflow-experiment-id=0"
"""The header with which MLflow takes spans; that experiment is there from the start."""

SESSIONS = """
{ projects { edges { node { name sessions(first: 100) { edges { node {
  sessionId userId tokenUsage { prompt completion } firstInput { value } lastOutput { value }
  traces(first: 100) { edges { node { rootSpan {
    name input { value mimeType } output { value mimeType } attributes
  } } } }
} } } } } } }
"""
"""What Phoenix's pages of sessions and of one session ask for."""

SEARCH = """
import json, sys
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
answers, sys.stdout = sys.stdout, sys.stderr  # where MLflow has its say
for _ in sys.stdin:
    found = mlflow.search_sessions(locations=["0"])
    print(json.dumps([[trace.to_dict() for trace in session] for session in found]), file=answers, flush=True)
"""
"""Answers each line with a line: importing MLflow takes longer than all that it is asked."""


class Phoenix(Server):
    """Phoenix with its data in a folder; its pages and OTLP over HTTP are at `address`, OTLP over gRPC at `grpc`."""

    starts_within = STARTS_WITHIN

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        port, grpc = free_port(), free_port()
        self.address, self.grpc = f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc}"
        folder = str(self._directory)
        settings = {
            "HOME": folder,
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        return [str(program("phoenix", "phoenix")), "serve"], settings

    def _is_ready(self) -> bool:
        return status(f"{self.address}/healthz") == 200

    def sessions(self, project: str) -> dict[str, dict[str, Any]]:
        """What the page of a project's sessions shows, by the sessions' ids."""
        request = urllib.request.Request(
            f"{self.address}/graphql", json.dumps({"query": SESSIONS}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            projects = nodes(json.load(answer)["data"]["projects"])
        found = [session for found in projects if found["name"] == project for session in nodes(found["sessions"])]
        return {session["sessionId"]: session for session in found}

    def spans(self, project: str) -> list[dict[str, Any]]:
        """A project's spans, as the REST API has them; none while there is no such project."""
        address = f"{self.address}/v1/projects/{project}/spans?limit=1000"
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as told:
                return json.load(told)["data"]
        except urllib.error.HTTPError as refused:
            if refused.code != 404:
                raise
            return []


class MLflow(Server):
    """MLflow's tracking server with its data in a folder; its pages and OTLP over HTTP are at `address`."""

    starts_within = STARTS_WITHIN
    _reader: subprocess.Popen[str] | None = None

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        settings = {
            "HOME": str(self._directory),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes more, for evaluations
        }
        command = [str(program("mlflow", "mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
        return [*command, "--workers", "1"], settings

    def _is_ready(self) -> bool:
        return status(f"{self.address}/health") == 200

    def sessions(self) -> dict[str, list[dict[str, Any]]]:
        """Each session's traces in the order in which `mlflow.search_sessions` has them, by the sessions' ids."""
        if self._reader is None:
            self._reader = self._started_reader()
        self._reader.stdin.write("\n")
        self._reader.stdin.flush()
        line = self._reader.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        found = json.loads(line)
        return {traces[0]["info"]["trace_metadata"]["mlflow.trace.session"]: traces for traces in found}

    def _started_reader(self) -> subprocess.Popen[str]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [program("mlflow", "python"), "-c", SEARCH, self.address],
                env={"HOME": str(self._directory), "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _stop(self) -> None:
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader = None
        super()._stop()


def nodes(connection: dict[str, Any]) -> list[dict[str, Any]]:
    """What a GraphQL connection holds."""
    return [edge["node"] for edge in connection["edges"]]
