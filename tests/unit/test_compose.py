"""The compose file of ``examples``, as far as it can be looked at without an engine that runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from backends.programs.pins import COLLECTOR
from compose_kit import COMPOSE, FOLDER, ROOT, SERVICES, image, mounts
from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parents[1] / "data" / "compose" / "compose-spec.json"
CONFIG = (ROOT / "collector-config.yaml").read_text(encoding="utf-8")
PORTS = {"collector": {4317, 4318}, "jaeger": {16686}, "tempo": {3200}, "grafana": {3000}}
DASHBOARD = "/var/lib/grafana/dashboards/llm-sessions.json"


def published(service: str) -> list[list[str]]:
    return [port.split(":") for port in SERVICES[service].get("ports", ())]


def test_it_is_what_the_compose_specification_says():
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert [*validator.iter_errors({**COMPOSE, "services": {"tempo": {"imago": "grafana/tempo"}}})]


def test_every_image_is_of_one_version():
    assert set(SERVICES) == set(PORTS)
    for service in SERVICES:
        assert re.fullmatch(r"\d+\.\d+\.\d+", image(service)[1]), service


def test_the_collector_is_the_one_that_is_tested():
    assert image("collector") == ("otel/opentelemetry-collector", COLLECTOR.removeprefix("v"))


def test_every_file_that_is_mounted_is_in_the_repository():
    assert [*mounts("collector").values()] == [ROOT / "collector-config.yaml"]
    assert [*mounts("tempo").values()] == [ROOT / "examples/tempo.yaml"]
    for service in SERVICES:
        for path in mounts(service).values():
            assert path.is_file() and ROOT in path.parents, path


def test_programs_are_told_the_files_that_they_are_given():
    # Where the collector's image looks is said in its own Dockerfile.
    assert [*mounts("collector")] == ["/etc/otelcol/config.yaml"] and "command" not in SERVICES["collector"]
    (told,) = SERVICES["tempo"]["command"]
    assert told.removeprefix("-config.file=") in mounts("tempo")


def test_ports_are_of_this_machine_alone_and_do_not_clash():
    taken = [int(port) for service in SERVICES for _, port, _ in published(service)]
    assert len(set(taken)) == len(taken)
    for service, ports in PORTS.items():
        assert {int(port) for _, port, _ in published(service)} == ports
        assert all(host == "127.0.0.1" and port == inside for host, port, inside in published(service))


def test_the_collector_sends_to_the_services_by_the_names_that_its_configuration_has():
    known = dict(re.findall(r"\$\{env:(\w+):-([^}]+)\}", CONFIG))
    said = SERVICES["collector"]["environment"]
    assert set(said) == {"JAEGER_ENDPOINT", "TEMPO_ENDPOINT"} <= set(known)
    for name, address in said.items():
        host, _, port = address.partition(":")
        assert host == name.removesuffix("_ENDPOINT").lower() and host in SERVICES["collector"]["depends_on"]
        assert port == "4317" and known[name] == address
    for name in ("COLLECTOR_GRPC", "COLLECTOR_HTTP"):
        host, _, port = known[name].partition(":")
        assert host == "0.0.0.0" and int(port) in PORTS["collector"]


def test_tempo_listens_where_the_collector_and_grafana_look_for_it():
    tempo = yaml.safe_load((ROOT / "examples/tempo.yaml").read_text(encoding="utf-8"))
    assert tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"
    (source,) = provisioned("datasources")["datasources"]
    assert (source["type"], source["url"]) == ("tempo", f"http://tempo:{tempo['server']['http_listen_port']}")
    assert source["access"] == "proxy" and source["isDefault"] is True


def provisioned(kind: str) -> dict:
    (path,) = [
        path
        for target, path in mounts("grafana").items()
        if re.fullmatch(rf"/etc/grafana/provisioning/{kind}/[\w-]+\.yaml", target)
    ]
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert found["apiVersion"] == 1
    return found


def test_grafana_finds_the_dashboard_and_opens_with_it():
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["type"] == "file"
    assert DASHBOARD.startswith(provider["options"]["path"] + "/")
    assert mounts("grafana")[DASHBOARD] == ROOT / "examples/grafana/llm-sessions.json"
    said = SERVICES["grafana"]["environment"]
    assert said["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == DASHBOARD
    assert said["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Editor"  # a viewer may not open Explore
    assert all(isinstance(value, str) for value in said.values())


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_readme_names_the_images_that_are_used(service):
    assert ":".join(image(service)) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)[)#]", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (FOLDER / link).exists(), link
