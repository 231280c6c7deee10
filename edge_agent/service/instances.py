"""Which agents a device has: that of edge-agent.service, and those of the template."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.errors import UsageError
from edge_agent.service.places import INSTANCES, SERVICE, Places
from edge_agent.service.steps import active_units

__all__ = ["further_agents", "unit_named"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
"""No dash, which systemd would escape in the name of a unit, and take for a slash."""


def unit_named(name: str | None) -> str:
    """The unit of an agent; that of edge-agent.service when it has no name.

    Raises:
        UsageError: no unit can have this name, or it is that of edge-agent.service's configuration.
    """
    if name is None:
        return SERVICE
    if not _NAME.fullmatch(name) or name == "agent":
        raise UsageError(f"--name {name}: expected letters, digits, _ and dots; and agent is {SERVICE}'s own")
    return f"edge-agent@{name}.service"


def further_agents(places: Places) -> dict[str, Path]:
    """Units of the template that run, or that the next boot starts, with their configurations."""
    found = set(active_units(INSTANCES))
    found |= {link.name for link in places.units.glob("*.wants/edge-agent@*.service")}
    names = sorted((unit, unit.partition("@")[2].removesuffix(".service")) for unit in found)
    return {unit: places.settings / f"{name}.toml" for unit, name in names}
