"""Takes the service off a device."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from edge_agent.errors import ServiceError, UsageError
from edge_agent.service.places import SERVICE, Places
from edge_agent.service.steps import Steps, is_booted, locked, systemctl

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
    if not places.current.is_symlink() and not (purge and (places.settings.exists() or places.state.exists())):
        raise UsageError(f"{places.current}: no version is installed")
    if dry_run:
        _uninstall(steps, places, purge=purge, retire=retire)
        return
    with locked(places.lock):
        _uninstall(steps, places, purge=purge, retire=retire)


def _uninstall(steps: Steps, places: Places, *, purge: bool, retire: bool) -> None:
    is_there = places.current.is_symlink()
    if is_there and is_booted():
        steps.do(f"stop {SERVICE}", systemctl, "stop", SERVICE)
    if is_there and retire and places.config.exists():
        steps.do("end the sessions at its brokers, and clear status and health", _retire, places, purge=purge)
    if is_there:
        steps.do(f"disable {SERVICE}", systemctl, "disable", SERVICE)
    units = [places.units / unit.name for unit in sorted((places.current / "systemd").glob("*.service"))]
    unneeded = [*units, places.drop_ins, places.versions]
    if places.command.is_symlink() and "edge-agent/current" in str(places.command.readlink()):
        unneeded.append(places.command)
    if purge:
        unneeded += [places.settings, places.state, places.state_link]
    for path in unneeded:
        if path.is_symlink() or path.exists():
            steps.do(f"delete {path}", _delete, path)
    if is_booted():
        steps.do("tell systemd", systemctl, "daemon-reload")


def _retire(places: Places, *, purge: bool) -> None:
    command = [str(places.current / "bin" / "edge-agent"), "retire", "--config", str(places.config)]
    command += ["--discard-waiting"] if purge else []
    given = {"STATE_DIRECTORY": str(places.state), "CREDENTIALS_DIRECTORY": str(places.credentials)}
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.removeprefix("edge-agent: ") for line in done.stderr.strip().splitlines()]
        if is_booted():
            systemctl("start", SERVICE)
        raise ServiceError(*lines, "nothing was deleted, and it runs again; --no-retire leaves the brokers as they are")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
