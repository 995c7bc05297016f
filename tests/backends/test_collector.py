"""The configurations that this repository shows, on the real Collector: what comes out of it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compose_kit import SERVICES, mounts
from jaeger_traces import calls, tags
from loopback_client import MODEL
from opentelemetry.trace import StatusCode
from servers import CONFIG, ROOT, Collector, until, validated

SHOWN = ROOT / "examples" / "collector"
OVERLAYS = sorted(path for path in SHOWN.glob("*.yaml") if "${env:COLLECTOR_GRPC" not in path.read_text())
FAILS = {"x-loopback-mode": "status=500"}
DECIDED = re.compile(r"^otelcol_processor_tail_sampling_global_count_traces_sampled.* [1-9]", re.M)


@pytest.fixture
def over(tmp_path: Path) -> Callable[..., Path]:
    """Write down a configuration of this repository, or a text, with some of it put in other words."""

    def written(config: str | Path, *words: tuple[str, str]) -> Path:
        text = config.read_text() if isinstance(config, Path) else config
        for old, new in words:
            text, changed = re.subn(old, new, text)
            assert changed, old
        path = tmp_path / f"over-{time.monotonic_ns()}.yaml"
        path.write_text(text)
        return path

    return written


class Talk:
    """Turns of sessions that an application sends to a Collector, each as soon as it is made."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self._tracer = sender.provider.get_tracer("web")

    def turn(self, session: str, *, fails: bool = False, request: str | None = None, words: str = "Hello") -> None:
        headers = {"x-session-id": session, **(FAILS if fails else {})}
        messages = [{"role": "user", "content": words}]

        def call() -> None:
            self.sender.client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)

        def made() -> None:
            if not fails:
                return call()
            with pytest.raises(Exception, match="500"):
                call()

        if request is None:
            made()
        else:
            with self._tracer.start_as_current_span(request):
                made()
        self.sender.send()

    def fail(self) -> None:
        """A span of the application's own that fails."""
        with self._tracer.start_as_current_span("a failure of its own") as span:
            span.set_status(StatusCode.ERROR)
        self.sender.send()


@pytest.fixture
def talk(application) -> Callable[[Collector, str], Talk]:
    return lambda collector, service: Talk(application(collector.grpc, service))


def turns_in(jaeger, service: str, session: str) -> list[dict[str, Any]]:
    return calls(jaeger.find(service, **{"session.id": session}))


def test_the_configuration_is_valid_and_so_is_what_is_laid_over_it():
    assert len(OVERLAYS) == 5
    for more in ((), *((path,) for path in OVERLAYS)):
        checked = validated(*more)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_configuration_is_valid_with_the_addresses_that_the_compose_file_says(monkeypatch):
    assert [*mounts("collector").values()] == [CONFIG]
    for name, address in SERVICES["collector"]["environment"].items():
        monkeypatch.setenv(name, address)
    checked = validated()
    assert (checked.returncode, checked.stderr) == (0, "")


def test_sessions_are_kept_with_the_turns_that_come_after_the_decision(jaeger, second, over, talk, tmp_path):
    config = over(SHOWN / "keep-sessions.yaml", (r"decision_wait: \d+s", "decision_wait: 1s"))
    with Collector(tmp_path, jaeger.grpc, second.grpc, config) as collector:
        application = talk(collector, "kept")
        application.turn("kept-whole")
        until(lambda: DECIDED.search(collector.figures()))
        application.turn("kept-whole", fails=True)
        until(lambda: len(turns_in(jaeger, "kept", "kept-whole")) == 2)
    (trace,) = jaeger.find("kept", **{"llm_session.root": "true"})
    assert len(trace["spans"]) == 3


def test_a_decision_at_the_root_loses_what_fails_later(jaeger, second, over, talk, tmp_path):
    config = over(
        SHOWN / "keep-sessions.yaml",
        (r"decision_wait: \d+s", "decision_wait: 1s\n    decision_wait_after_root_received: 1ms"),
        (r" +- name: sessions\n.*?\n.*?\n", ""),
        ("percentage: 10", "percentage: 0"),
        ("decision_cache:", "decision_cache:\n      non_sampled_cache_size: 1000"),
    )
    with Collector(tmp_path, jaeger.grpc, second.grpc, config) as collector:
        application = talk(collector, "lost")
        application.turn("lost-whole")
        until(lambda: DECIDED.search(collector.figures()))
        application.turn("lost-whole", fails=True)
        application.fail()
        until(lambda: jaeger.find("lost"))
    assert turns_in(jaeger, "lost", "lost-whole") == []


def chosen(is_kept: bool, name: str) -> str:
    """A session's id that the share has, or has not."""
    ids = (f"{name}-{number}" for number in range(1_000))
    return next(id_ for id_ in ids if hashlib.sha256(id_.encode()).hexdigest().startswith("0") is is_kept)


def test_a_share_of_sessions_is_kept_whole_with_their_web_requests(jaeger, second, over, talk, tmp_path):
    config = over(SHOWN / "keep-a-share.yaml", (r"decision_wait: \d+s", "decision_wait: 1s"))
    kept, dropped = chosen(True, "share"), chosen(False, "share")
    with Collector(tmp_path, jaeger.grpc, second.grpc, config) as collector:
        application = talk(collector, "share")
        for session in (dropped, kept):
            for request in (None, "GET /chat", None):
                application.turn(session, request=request)
        until(lambda: len(turns_in(jaeger, "share", kept)) == 3)
    found = jaeger.find("share")
    assert turns_in(jaeger, "share", dropped) == []
    assert sorted(len(trace["spans"]) for trace in found) == [
        2,
        4,
    ]  # the request with its call; the root, turns and a marker


def test_what_failed_is_kept_whole_however_late_it_failed_and_so_is_a_share_of_the_rest(
    jaeger, second, over, talk, tmp_path
):
    service = "failed"
    kept, dropped, late = chosen(True, "never-fails"), chosen(False, "never-fails"), chosen(False, "fails-late")
    with Collector(tmp_path, jaeger.grpc, second.grpc, SHOWN / "keep-what-failed.yaml") as collector:
        application = talk(collector, service)
        for session in (late, dropped, kept, "fails-in-a-request"):
            application.turn(session)
        time.sleep(3)  # past the second at which traces that wait are looked through
        for session in (late, dropped, kept):
            application.turn(session, fails=session == late)
        application.turn("fails-in-a-request", fails=True, request="GET /chat")
        application.turn(late)
        until(lambda: len(turns_in(jaeger, service, late)) == 3)
        until(lambda: len(jaeger.find(service, **{"session.id": "fails-in-a-request"})) == 2)
        until(lambda: len(turns_in(jaeger, service, kept)) == 2)
    roots = jaeger.find(service, **{"llm_session.root": "true"})
    assert sorted(len(trace["spans"]) for trace in roots) == [3, 3, 4]
    assert turns_in(jaeger, service, dropped) == []


def test_long_turns_keep_their_sessions_too(jaeger, second, talk, tmp_path, monkeypatch):
    monkeypatch.setenv("MANY_TOKENS", "15")
    with Collector(tmp_path, jaeger.grpc, second.grpc, SHOWN / "keep-what-failed.yaml") as collector:
        application = talk(collector, "long-turns")
        for session, request in (("long-one", None), ("long-in-a-request", "GET /chat"), ("short", None)):
            application.turn(session, request=request)
            application.turn(session, request=request, words="Hello" if session == "short" else "Tell me about otters")
        for session in ("long-one", "long-in-a-request"):
            until(
                lambda session=session: jaeger.find("long-turns", **{"session.id": session, "llm_session.root": "true"})
            )
    roots = jaeger.find("long-turns", **{"llm_session.root": "true"})
    assert sorted(len(trace["spans"]) for trace in roots) == [3, 3]


def test_a_session_that_outlasts_the_wait_is_not_kept(jaeger, second, talk, tmp_path, monkeypatch):
    monkeypatch.setenv("SESSION_WAIT", "1s")
    with Collector(tmp_path, jaeger.grpc, second.grpc, SHOWN / "keep-what-failed.yaml") as collector:
        application = talk(collector, "outlasts")
        application.turn("too-late")
        until(lambda: DECIDED.search(collector.figures()))
        application.turn("too-late", fails=True)
        application.fail()
        until(lambda: jaeger.find("outlasts"))
    assert turns_in(jaeger, "outlasts", "too-late") == []


def test_metrics_made_of_spans_count_each_turn_once_by_model(jaeger, second, over, talk, tmp_path, monkeypatch):
    written = tmp_path / "metrics.json"
    monkeypatch.setenv("METRICS_EVERY", "1s")
    kept = over(f"exporters: {{file: {{path: {written}}}}}\nservice: {{pipelines: {{metrics: {{exporters: [file]}}}}}}")
    with Collector(tmp_path, jaeger.grpc, second.grpc, SHOWN / "span-metrics.yaml", kept) as collector:
        application = talk(collector, "counted")
        for fails in (False, False, True):
            application.turn("counted", request="POST /chat", fails=fails)
        until(lambda: written.exists() and sum(counted(written).values()) >= 6)
    by_name = counted(written)
    assert sum(number for (name, _, _), number in by_name.items() if name == f"chat {MODEL}") == 3
    assert by_name[f"chat {MODEL}", MODEL, "STATUS_CODE_ERROR"] == 1
    assert {name for name, _, _ in by_name} == {"POST /chat", f"chat {MODEL}"}
    assert "session.id" not in written.read_text()


def counted(written: Path) -> dict[tuple[Any, ...], int]:
    """How many spans the newest metrics count, by name, model and status."""
    found: dict[tuple[Any, ...], int] = {}
    for line in written.read_text().splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            for metric in (metric for scope in resource["scopeMetrics"] for metric in scope["metrics"]):
                for point in metric.get("sum", {}).get("dataPoints", ()):
                    said = {each["key"]: each["value"].get("stringValue") for each in point["attributes"]}
                    key = said["span.name"], said.get("gen_ai.request.model"), said["status.code"]
                    found[key] = int(point["asInt"])
    return found


def test_redaction_masks_contents_and_makes_pseudonyms_of_ids(jaeger, second, talk, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    pseudonym = hashlib.sha256(b"+44 20 7946 0000").hexdigest()
    with Collector(tmp_path, jaeger.grpc, second.grpc, SHOWN / "redaction.yaml") as collector:
        application = talk(collector, "redacted")
        for words in ("Thank you, ada@example.com", "A joke about 4111 1111 1111 1111"):
            application.turn("+44 20 7946 0000", words=words)
        found = until(lambda: len(told := turns_in(jaeger, "redacted", pseudonym)) == 2 and told)
    (trace,) = jaeger.find("redacted", **{"llm_session.root": "true"})
    assert {tags(span)["session.id"] for span in trace["spans"]} == {pseudonym}
    assert len(trace["spans"]) == 3
    everything = json.dumps(jaeger.find("redacted"))
    assert not any(secret in everything for secret in ("ada@", "4111 1111", "20 7946"))
    assert ["****" in tags(call)["gen_ai.input.messages"] for call in found] == [True, True]
