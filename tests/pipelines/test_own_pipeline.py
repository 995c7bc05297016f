"""A tracer provider of one's own, and one that a file configures: what docs/existing-pipelines.md has one write."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from pipelines.page import PAGE
from pipelines.pipelines_kit import Pipeline, calls, check_whole, pipeline
from store_kit import RedisServer

OWN, FILE = "A tracer provider of your own", "A configuration file"
OF_THE_SDK = "OTEL_CONFIG_FILE is set; ignoring configurator kwargs: ['auto_instrumentation_version']\n"
OF_OTHERS = "Attempting to instrument while already instrumented\n"
IN_THE_FILE = re.search(r"# otel.yaml, further down\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]

pytestmark = pytest.mark.frameworks


def talked(at: Pipeline, command: list[str], **settings: str) -> list[str]:
    """Run the section's conversation; returns the ids of its responses."""
    done = at.run(command, at.settings(**settings))
    assert (done.returncode, done.stderr.replace(OF_THE_SDK, "")) == (0, "")
    return done.stdout.split()


def check_both_have_all(at: Pipeline, chain: list[str]) -> None:
    """Fail unless each of two exporters has sent every span, once."""
    copies = Counter((span.trace_id, span.span_id) for span in at.receiver.spans)
    assert set(copies.values()) == {2}
    by_ways = [at.receiver.over_grpc, at.receiver.over_http]
    for spans in by_ways:
        check_whole(spans, [chain], below=None)


def test_every_exporter_of_an_own_provider_has_the_session(tmp_path: Path, redis: RedisServer):
    with pipeline("own", OWN, tmp_path, redis) as at:
        check_both_have_all(at, talked(at, at.section.command("python")))


@pytest.mark.parametrize("order", ["instrumented first", "given", "given beside a global one"])
def test_when_and_how_the_provider_is_told_makes_no_difference(order, tmp_path: Path, redis: RedisServer):
    telling, set_it = "OpenAISessionsInstrumentor().instrument()", "trace.set_tracer_provider(provider)\n"
    with pipeline("own", OWN, tmp_path, redis) as at:
        text = at.section.files["telemetry.py"]
        assert text.endswith(set_it + telling + "\n")
        head = text.removesuffix(set_it + telling + "\n")
        given = telling.replace("()", "(tracer_provider=provider)").replace("(tracer_provider=provider).", "().")
        made = "provider = TracerProvider()"
        texts = {
            "instrumented first": head.replace(made, f"{telling}\n{made}") + set_it,
            "given": head + given,
            "given beside a global one": head + "trace.set_tracer_provider(TracerProvider())\n" + given,
        }
        at.write(**{"telemetry.py": texts[order]})
        check_both_have_all(at, talked(at, at.section.command("python")))


def test_what_a_file_configures_has_the_session(tmp_path: Path, redis: RedisServer):
    with pipeline("own", FILE, tmp_path, redis) as at:
        check_both_have_all(at, talked(at, at.section.command("python")))
        assert {span.resource["service.name"] for span in at.receiver.spans} == {"shop"}


def test_the_file_may_hold_settings_of_this_package(tmp_path: Path, redis: RedisServer):
    with pipeline("own", FILE, tmp_path, redis) as at:
        at.write(**{"otel.yaml": at.section.files["otel.yaml"] + IN_THE_FILE})
        done = at.run(at.section.command("python"), at.settings())
        chain = done.stdout.split()
        found = calls(at.receiver.over_http)
        assert [call.attributes["session.id"] for call in found] == [chain[0]] * 2
        assert not [span for span in at.receiver.spans if "llm_session.root" in span.attributes]
        assert done.stderr.replace(OF_THE_SDK, "").replace(OF_OTHERS, "") == ""
