"""What the real programs are made of: every version is pinned here, the hashes of all modules are in ``sums/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CORE: Final = "go.opentelemetry.io/collector"
_CONTRIB: Final = "github.com/open-telemetry/opentelemetry-collector-contrib"

COLLECTOR: Final = "v0.155.0"
"""Of the collector, its builder and its components; newer ones need modules that are not to be had everywhere."""

CONFMAP: Final = "v1.61.0"
"""Of the collector's modules that are numbered from 1; goes with ``COLLECTOR``."""

JAEGER: Final = "v1.76.0"
"""Jaeger's module counts from 1, the program in it is Jaeger v2."""

BUILDER: Final = f"{_CORE}/cmd/builder"
JAEGER_PROGRAM: Final = "github.com/jaegertracing/jaeger/cmd/jaeger"

BUILDER_MODULES: Final = {BUILDER: COLLECTOR}
JAEGER_MODULES: Final = {"github.com/jaegertracing/jaeger": JAEGER}
JAEGER_REPLACED: Final = {"github.com/Shopify/sarama": "v1.33.0"}
"""As Jaeger's own go.mod has it: a replacement counts in the main module alone."""

COMPONENTS: Final = {
    "receivers": {f"{_CORE}/receiver/otlpreceiver": COLLECTOR},
    "processors": {
        f"{_CORE}/processor/batchprocessor": COLLECTOR,
        f"{_CORE}/processor/memorylimiterprocessor": COLLECTOR,
        f"{_CONTRIB}/processor/attributesprocessor": COLLECTOR,
        f"{_CONTRIB}/processor/filterprocessor": COLLECTOR,
        f"{_CONTRIB}/processor/redactionprocessor": COLLECTOR,
        f"{_CONTRIB}/processor/tailsamplingprocessor": COLLECTOR,
        f"{_CONTRIB}/processor/transformprocessor": COLLECTOR,
    },
    "connectors": {f"{_CONTRIB}/connector/spanmetricsconnector": COLLECTOR},
    "exporters": {
        f"{_CORE}/exporter/debugexporter": COLLECTOR,
        f"{_CORE}/exporter/otlpexporter": COLLECTOR,
        f"{_CORE}/exporter/otlphttpexporter": COLLECTOR,
        f"{_CONTRIB}/exporter/fileexporter": COLLECTOR,
        f"{_CONTRIB}/exporter/prometheusexporter": COLLECTOR,
    },
    "extensions": {f"{_CONTRIB}/extension/healthcheckextension": COLLECTOR},
    "providers": {
        f"{_CORE}/confmap/provider/envprovider": CONFMAP,
        f"{_CORE}/confmap/provider/fileprovider": CONFMAP,
        f"{_CORE}/confmap/provider/yamlprovider": CONFMAP,
    },
}
"""What the collector can do, by the sections of the builder's manifest."""

ROUTER_COMPONENTS: Final = {
    **COMPONENTS,
    "exporters": {**COMPONENTS["exporters"], f"{_CONTRIB}/exporter/loadbalancingexporter": "v0.150.0"},
}
"""What a collector before others can do; of newer exporters not all that they need is to be had everywhere."""


def modules(components: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What a collector of these components requires."""
    of_components = {module: version for section in components.values() for module, version in section.items()}
    return {**of_components, f"{_CORE}/otelcol": COLLECTOR, f"{_CORE}/service": COLLECTOR}
