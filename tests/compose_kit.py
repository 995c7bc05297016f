"""The compose file that ``examples/compose`` has, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: str) -> dict[str, Path]:
    """What a service is given of this repository: files, by where it finds them."""
    found = {}
    for mount in SERVICES[service].get("volumes", ()):
        source, target, mode = mount.split(":")
        assert mode == "ro", mount
        found[target] = (FOLDER / source).resolve()
    return found


def image(service: str) -> tuple[str, str]:
    """Name and version of a service's image."""
    name, _, version = SERVICES[service]["image"].partition(":")
    return name, version
