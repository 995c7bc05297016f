"""What servers have left to send when they are stopped arrives, as the documentation says."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from jaeger_traces import calls
from pipelines.page import sections
from servers import ROOT, Jaeger, until
from stopping import stopped
from store_kit import free_port

HERE = Path(__file__).parent
CALLS = 3
FLUSHING = re.search(r"@worker_process_shutdown.*?\n\n", sections()["Celery"].files["tasks.py"], re.S)[0]
TASKS = f"""
import os
from celery import Celery
from celery.signals import worker_process_shutdown
from openai import OpenAI
from opentelemetry import metrics, trace
{FLUSHING}
HERE = os.path.dirname(os.path.abspath(__file__))
app = Celery("tasks", broker="filesystem://", backend="file://" + HERE)
app.conf.update(
    broker_transport_options={{"data_folder_in": HERE, "data_folder_out": HERE}},
    worker_enable_remote_control=False,
)

@app.task
def ask(session):
    headers = {{"x-session-id": session}}
    return OpenAI().responses.create(model="gpt-4o-mini", input="Hello", extra_headers=headers).id
"""
ASKING = f"import tasks; [asked.get(timeout=60) for asked in [tasks.ask.delay('celery') for _ in range({CALLS})]]"
UVICORN = ("uvicorn", "web_service:app", "--app-dir", str(ROOT / "examples"), "--port", "{port}")
SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn with workers": (*UVICORN, "--workers", "2"),
    "gunicorn": ("gunicorn", "served_by_gunicorn:app", "--chdir", str(HERE), "--workers", "2", "--bind", ":{port}"),
}


@pytest.fixture
def patient(environment: Callable[..., dict[str, str]], jaeger: Jaeger) -> Callable[[str], dict[str, str]]:
    """The environment of a server that sends nothing by itself for ten minutes."""
    return lambda service: environment(
        jaeger.grpc,
        service,
        OTEL_BSP_SCHEDULE_DELAY="600000",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )


@pytest.mark.parametrize("name", SERVERS)
def test_a_web_server_that_is_stopped_has_sent_everything(name, patient, jaeger: Jaeger, tmp_path: Path):
    port = free_port()
    address = f"http://127.0.0.1:{port}/chat"
    with stopped([word.format(port=port) for word in SERVERS[name]], patient(name), tmp_path):
        for _ in range(CALLS):
            until(lambda: asked(address))
    assert len(until(lambda: found if len(found := calls(jaeger.find(name))) == CALLS else None)) == CALLS


def asked(address: str) -> bool:
    """Whether a server that may not be up yet has answered."""
    request = urllib.request.Request(
        address, json.dumps({"message": "Hello"}).encode(), {"Content-Type": "application/json"}
    )
    with contextlib.suppress(ConnectionError, urllib.error.URLError):
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status == 200
    return False


def test_celery_s_processes_that_are_stopped_have_sent_everything(patient, jaeger: Jaeger, tmp_path: Path):
    (tmp_path / "tasks.py").write_text(TASKS)
    environment = {**patient("celery"), "PYTHONPATH": str(tmp_path)}
    worker = ["celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "warning"]
    with stopped(worker, environment, tmp_path):
        subprocess.run([sys.executable, "-c", ASKING], env=environment, cwd=tmp_path, check=True, timeout=120)
    assert len(until(lambda: found if len(found := calls(jaeger.find("celery"))) == CALLS else None)) == CALLS
