"""Takes the service off a device."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import ServiceError, UsageError
from edge_agent.service.instances import further_agents
from edge_agent.service.places import INSTANCES, SERVICE, Places
from edge_agent.service.steps import Steps, active_units, is_booted, locked, systemctl

__all__ = ["uninstall"]


def uninstall(*, purge: bool = False, retire: bool = True, places: Places | None = None, dry_run: bool = False) -> None:
    """Stop the service and delete its program and unit.

    Args:
        purge: delete configuration, bundles, secrets and the journal, too; events that wait in it are lost.
        retire: end the sessions at the brokers and clear what is retained there.
        places: where everything is.
        dry_run: only say what would be done.

    Raises:
        ServiceError: it cannot be stopped, or the brokers cannot be reached; then everything is still there.
        UsageError: it is not installed, or this is not root.
    """
    places = places or Places()
    steps = Steps(dry_run=dry_run)
    if places.packaged.exists():
        raise UsageError(f"{places.packaged}: the service is a Debian package here; take it off: apt purge edge-agent")
    if not places.current.is_symlink() and not (purge and places.settings.exists()):
        raise UsageError(f"{places.current}: no version is installed")
    if dry_run:
        _uninstall(steps, places, purge=purge, retire=retire)
        return
    with locked(places.lock):
        _uninstall(steps, places, purge=purge, retire=retire)


def _uninstall(steps: Steps, places: Places, *, purge: bool, retire: bool) -> None:
    agents = {SERVICE: places.config, **further_agents(places)}
    # Found before anything is deleted, and the program last, because it is what finds them.
    unneeded = [*_installed(places), *(_kept(places) if purge else [])]
    if places.current.is_symlink():
        _stop(steps, places, agents, purge=purge, retire=retire)
    for path in [path for path in (*unneeded, places.versions) if os.path.lexists(path)]:
        steps.do(f"delete {path}", _delete, path)
    for folder in places.drop_ins:
        with suppress(OSError):
            folder.rmdir()
    if is_booted():
        steps.do("tell systemd", systemctl, "daemon-reload")


def _stop(steps: Steps, places: Places, agents: dict[str, Path], *, purge: bool, retire: bool) -> None:
    running = [unit for unit in agents if unit in (*active_units(SERVICE), *active_units(INSTANCES))]
    if is_booted():
        steps.do(f"stop {', '.join(agents)}", systemctl, "stop", *agents)
    for unit, config in agents.items():
        if retire and config.exists():
            text = f"end the sessions of {config} at its brokers, and clear its status and health"
            steps.do(text, _retire, places, unit, config, running, purge=purge)
    steps.do(f"disable {', '.join(agents)}", systemctl, "disable", *agents)


def _installed(places: Places) -> list[Path]:
    """Units, drop-ins of ours, the command and links to what is gone, but for the program itself."""
    units = [places.units / unit.name for unit in sorted((places.current / "systemd").glob("*.service"))]
    added = [path for folder in places.drop_ins for path in sorted(folder.glob("50-*.conf"))]
    is_ours = places.command.is_symlink() and "edge-agent/current" in str(places.command.readlink())
    return [*units, *added, *([places.command] if is_ours else []), *places.run_links]


def _kept(places: Places) -> list[Path]:
    """What another installation would go on with."""
    further = [f"edge-agent@{path.stem}.service" for path in places.settings.glob("*.toml") if path != places.config]
    states = [folder for unit in (SERVICE, *further) for folder in places.states(unit)]
    return [*states, *places.drop_ins, *places.units_before, places.settings]


def _retire(places: Places, unit: str, config: Path, running: list[str], *, purge: bool) -> None:
    command = [str(places.current / "bin" / "edge-agent"), "retire", "--config", str(config)]
    command += ["--discard-waiting"] if purge else []
    given = {"STATE_DIRECTORY": str(places.states(unit)[0]), "CREDENTIALS_DIRECTORY": str(places.credentials)}
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.removeprefix("edge-agent: ") for line in done.stderr.strip().splitlines()]
        if is_booted() and running:
            systemctl("start", *running)
        again = f"nothing was deleted, and {', '.join(running)} runs again" if running else "nothing was deleted"
        raise ServiceError(*lines, f"{again}; --no-retire leaves the brokers as they are")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
