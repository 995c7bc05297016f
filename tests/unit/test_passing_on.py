"""Where the demo passes on what it shows, as people set the endpoint of an OpenTelemetry SDK."""

import pytest

from otel_llm_sessions.demo.passing import passed_on
from otel_llm_sessions.view.server.forwarding import Forwarding

HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@pytest.mark.parametrize(
    ("asked", "more", "url"),
    [
        ("http://collector:4318", {}, "http://collector:4318"),
        ("https://collector/otlp", {}, "https://collector/otlp"),
        ("collector:4318", {}, "http://collector:4318"),
        ("localhost:4317", {}, "http://localhost:4318"),
        ("http://localhost:4317", {}, "http://localhost:4318"),
        ("https://[::1]:4317/", {}, "https://[::1]:4318/"),
        ("http://localhost:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://localhost:4318"),
        ("http://localhost:4317", HTTP, "http://localhost:4317"),
        ("localhost:4317", HTTP, "http://localhost:4317"),
        (" localhost ", {}, "http://localhost"),
    ],
)
def test_an_address_is_taken_as_it_is_meant(asked, more, url):
    found = passed_on({"OTEL_EXPORTER_OTLP_ENDPOINT": asked, **more})
    assert found.url == url
    assert found.said.startswith(f"They are passed on to {url}, ")
    assert ("is for gRPC" in found.said) == ("4317" in asked and more is not HTTP)
    Forwarding(found.url)


@pytest.mark.parametrize(
    "asked", ["dns:///collector:4317", "unix:///run/otlp", "http://", "http://[", "http://a:b", "a:4318?b=c"]
)
def test_what_is_no_address_is_said_in_a_line_and_nothing_is_passed_on(asked):
    found = passed_on({"OTEL_EXPORTER_OTLP_ENDPOINT": asked})
    assert found.url == ""
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={asked} is not valid" in found.said
    assert "http://collector:4318" in found.said
    assert "\n" not in found.said


@pytest.mark.parametrize("environment", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}])
def test_nothing_is_said_where_nothing_is_asked_for(environment):
    assert passed_on(environment) == ("", "")


@pytest.mark.parametrize("asked", ["http://me:secret@collector:4317", "me:secret@collector:4317", "dns://me:secret@a"])
def test_no_password_is_said(asked):
    said = passed_on({"OTEL_EXPORTER_OTLP_ENDPOINT": asked}).said
    assert said and "secret" not in said
