"""Where the service of a configuration has its state, as systemd makes that folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["service_name", "service_state_dir"]

_SETTINGS = Path("/etc/edge-agent")
_STATES = Path("/var/lib")
_RUNTIME = Path("/run")


def service_name(config: Path) -> str:
    """What a service's folders are called: `edge-agent`, or `edge-agent-NAME` for NAME.toml in /etc/edge-agent."""
    config = config.absolute()
    return "edge-agent" if config.parent != _SETTINGS or config.name == "agent.toml" else f"edge-agent-{config.stem}"


def service_state_dir(name: str, *, states: Path = _STATES, runtime: Path = _RUNTIME) -> Path:
    """The state folder that a service's next start gets, or the running one has.

    Where /var could not be written, edge-agent-again@.service has left a drop-in that puts it into memory.

    Args:
        name: see `service_name`.
        states: systemd's folder of states.
        runtime: systemd's folder of what a reboot clears.
    """
    instance = name.removeprefix("edge-agent").removeprefix("-")
    unit = f"edge-agent@{instance}.service" if instance else "edge-agent.service"
    in_memory = runtime / "systemd" / "system" / f"{unit}.d" / "state-in-memory.conf"
    # exists() of a Path raises where a folder above is not ours to read.
    return (runtime if os.path.exists(in_memory) else states) / name  # noqa: PTH110
