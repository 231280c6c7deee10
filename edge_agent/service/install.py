"""Puts a version of the agent beside the one that runs, proves it, and lets it take the other's place."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edge_agent.errors import BundleError, ConfigError, ServiceError, UsageError
from edge_agent.service.instances import further_agents, unit_named
from edge_agent.service.places import INSTANCES, SERVICE, Places
from edge_agent.service.placing import Files, clear_parts, place_drop_ins, place_program, place_units, put_units_back
from edge_agent.service.steps import SYSTEMCTL, Steps, active_units, is_booted, locked, place_link, systemctl

__all__ = ["install", "roll_back"]

_JOURNAL_LINES = 8
_READY = "ready"
"""The file in a version that says that it was ready here once: what there is to go back to."""
_FAILED = "failed"
"""The file in a version that says that it did not start, and never had: nothing to go back to."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What there is to go back to."""

    current: str | None
    previous: str | None
    good: str | None
    """The newest of the two that was ready once; else the current one, unless it is known not to start."""
    was_ready: bool
    """One was."""


def install(
    *,
    program: Path | None = None,
    config: Path | None = None,
    files: Sequence[Path] = (),
    name: str | None = None,
    places: Places | None = None,
    replace_config: bool = False,
    start: bool = True,
    dry_run: bool = False,
) -> None:
    """Install the service, or a newer version of it.

    Nothing that runs is touched before the new version is whole, in its place, and has checked the configuration. If it
    does not start, what ran before runs again. Killed at any moment, one whole version is there to be started.

    Args:
        program: a folder with a program, as `edgetool deploy` makes it; this installation when not given.
        config: agent.toml; the one that is there already stays when not given.
        files: bundles and other files that it names.
        name: of an agent of the template, edge-agent@NAME.service with NAME.toml; None for edge-agent.service, or for
            all that a device has where it has no agent.toml.
        places: where everything goes.
        replace_config: put `config` in the place of one that is there and is different.
        start: start the service, and wait until it is ready.
        dry_run: only say what would be done.

    Raises:
        BundleError: `program` is none, or for another machine; or the configuration names a bundle that is not there.
        ConfigError: there is no configuration, or it is wrong.
        ServiceError: the service does not start, and what ran before runs again; or the disk takes nothing.
        UsageError: this is not root, another such command is at work, or there is no systemd.
    """
    places = places or Places()
    steps = Steps(dry_run=dry_run)
    if start and not is_booted():
        raise UsageError("systemd does not run this machine; --no-start installs for the next boot")
    # What would be done can be asked for anywhere.
    if not dry_run and not Path(SYSTEMCTL).exists():
        raise UsageError(f"{SYSTEMCTL}: not found; the service is systemd's, so install systemd first")
    unit = unit_named(name)
    if places.packaged.exists():
        if program is not None or config is not None or files or name is not None:
            raise UsageError(
                f"{places.packaged}: the service is a Debian package here; upgrade it: apt install ./FILE.deb. "
                "Without options, edge-agent install gives it the secrets that were added"
            )
        with nullcontext() if dry_run else _alone(places):
            _give_secrets(steps, places, start=start)
        return
    settings = places.settings / f"{'agent' if name is None else name}.toml"
    _refuse_missing(config, files, settings)
    if not settings.exists() and config is None:
        unit = ""  # only those of the template
    with nullcontext() if dry_run else _alone(places):
        placed = Files(steps, places, config, files, replace_config=replace_config, name=settings.name)
        _install(steps, places, program, placed, unit, start=start)


def roll_back(*, places: Places | None = None, dry_run: bool = False) -> None:
    """Let the version run again that ran before, and keep this one for another rollback.

    Configuration and bundles stay as they are.

    Raises:
        ServiceError: it does not start; then what ran until now runs again.
        UsageError: there is none, or this is not root.
    """
    places = places or Places()
    steps = Steps(dry_run=dry_run)
    before = _before(places)
    if before.current is None or before.previous is None:
        raise UsageError("; ".join([f"{places.previous}: no version ran before this one", *_other_ways_back(places)]))
    if dry_run:
        _switch(steps, places, before.previous, before.current)
        return
    with _alone(places):
        units = _all_agents(places, SERVICE if places.config.exists() else "")
        _switch(steps, places, before.previous, before.current)
        if is_booted():
            steps.do("start it and wait until it is ready", _restart, steps, places, before, None, units)


def _other_ways_back(places: Places) -> list[str]:
    """What else an installation has replaced and kept, each with the commands that put it back."""
    found: list[str] = []
    if any(path.name == f"{SERVICE}.before" for path in places.units_before):
        kept = f"mv {places.unit}.before {places.unit} && systemctl daemon-reload && systemctl restart edge-agent"
        found.append(f"the unit that was here before the first of them was kept: {kept}")
    kept_files = sorted(str(path) for path in places.settings.glob("*.before"))
    if kept_files:
        moves = " && ".join(f"mv {path} {path.removesuffix('.before')}" for path in kept_files)
        found.append(f"a configuration or bundle that was replaced was kept: {moves} && systemctl reload edge-agent")
    return found


def _all_agents(places: Places, unit: str) -> list[str]:
    """Units to be started: one, if it has a name, and all that run, because all agents of a device run one version."""
    running = [*active_units(SERVICE), *active_units(INSTANCES)]
    enabled = [] if unit or running else [*further_agents(places)]
    return [*dict.fromkeys([*([unit] if unit else []), *running, *enabled])]


def _give_secrets(steps: Steps, places: Places, *, start: bool) -> None:
    """Write the drop-ins of a service that is a Debian package, whose units know of no secret here."""
    place_drop_ins(steps, places, places.current)
    if start:
        steps.do("tell systemd", systemctl, "daemon-reload")
        units = _all_agents(places, SERVICE)
        steps.do(f"restart {', '.join(units)}", systemctl, "restart", *units)


def _refuse_missing(config: Path | None, files: Sequence[Path], settings: Path) -> None:
    if config is None and not settings.exists() and (settings.name != "agent.toml" or not _has_others(settings)):
        raise ConfigError(f"{settings}: no such file; give --config FILE")
    for path in (*files, *(() if config is None else (config,))):
        if not path.is_file():
            raise UsageError(f"{path}: no such file")


def _has_others(settings: Path) -> bool:
    """Whether a device without an agent.toml has agents of the template."""
    return any(settings.parent.glob("*.toml"))


@contextmanager
def _alone(places: Places) -> Iterator[None]:
    """Files are for every user to read, whatever root's umask is; and what the disk refuses is told in a line."""
    old = os.umask(0o022)
    try:
        with locked(places.lock):
            places.settings.mkdir(parents=True, exist_ok=True)
            clear_parts(places)
            yield
    except OSError as exc:
        raise ServiceError(f"{exc.filename or places.versions}: {exc.strerror}; free the disk and try again") from exc
    finally:
        os.umask(old)


def _before(places: Places) -> _Before:
    current, previous = _target(places.current), _target(places.previous)
    ready = [name for name in (current, previous) if name is not None and (places.versions / name / _READY).exists()]
    good = ready[0] if ready else current
    if good is not None and not ready and (places.versions / good / _FAILED).exists():
        good = None
    return _Before(current, previous, good, bool(ready))


def _install(steps: Steps, places: Places, source: Path | None, files: Files, unit: str, *, start: bool) -> None:
    before = _before(places)
    name = place_program(steps, places, source)
    steps.do(f"make {places.credentials}, for secrets", _make_private, places.credentials)
    if not steps.dry_run:
        # Only where there are none: the check reads them.
        if not places.unit.exists():
            place_units(steps, places, places.versions / name)
        place_drop_ins(steps, places, places.versions / name)
    if start:
        steps.do("check the configuration by the new version", _check, places, name, files, unit)
    units = _all_agents(places, unit)
    with _held_signals():
        try:
            files.take()
            _switch(steps, places, name, before.good)
            if unit:
                steps.do("let the next boot start it", systemctl, "enable", unit)
            if start and units:
                waiting = "start it and wait until it is ready; a first start measures the providers"
                steps.do(waiting, _restart, steps, places, before, files, units)
        except OSError:
            _undo(steps, places, before, files)
            raise
    if start:
        _tell_result(steps, unit, units)
    steps.do("delete versions that neither run nor ran before", _tidy, places)
    if (remark := files.remark()) is not None and not steps.dry_run:
        steps.tell(remark)


def _undo(steps: Steps, places: Places, before: _Before, files: Files) -> None:
    """The disk has refused something."""
    files.put_back()
    if before.good is not None:
        _switch(steps, places, before.good, before.previous)
    elif not before.was_ready:
        put_units_back(steps, places)


def _tell_result(steps: Steps, unit: str, units: Sequence[str]) -> None:
    if not units:
        steps.tell("start nothing, as no agent is enabled; for each NAME.toml: systemctl enable --now edge-agent@NAME")
    elif not steps.dry_run:
        shown = unit.removesuffix(".service") or "'edge-agent@*'"
        steps.tell(f"it runs: systemctl status {shown}; journalctl -u {shown} -f")


@contextmanager
def _held_signals() -> Iterator[None]:
    """A terminal that hangs up, or Ctrl-C, must not leave a version current that nobody has seen start."""
    held = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in held]
    try:
        yield
    finally:
        for number, handler in zip(held, before, strict=True):
            signal.signal(number, handler)


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def _check(places: Places, name: str, files: Files, unit: str) -> None:
    """Let the new version look at what it is to run by, as the service's user would."""
    config = files.stage()
    if is_booted():
        systemctl("daemon-reload")
    others = [config.with_name(path.name) for path in further_agents(places).values() if path.exists()]
    for each in [config] if unit else others:
        _check_one(places, name, files, each)


def _check_one(places: Places, name: str, files: Files, config: Path) -> None:
    command = [str(places.versions / name / "bin" / "edge-agent"), "check", "--as-service", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    files.put_back()
    said = done.stderr.replace(str(places.staged), str(places.settings)).strip().splitlines()
    lines = [line.removeprefix("edge-agent: ") for line in said] or ["it gave no reason"]
    if lines[0].startswith("Traceback"):
        lines = lines[-1:]
    error = {ConfigError.exit_code: ConfigError, BundleError.exit_code: BundleError}.get(done.returncode, ServiceError)
    raise error(*lines, "nothing was changed that runs")


def _switch(steps: Steps, places: Places, name: str, previous: str | None) -> None:
    """Make a version the current one, by one rename.

    Args:
        steps: says what is done.
        places: where everything is.
        name: of the version.
        previous: the one that a rollback is to; none when None or itself.
    """
    if previous not in (None, name):
        steps.do(f"remember {previous} for a rollback", place_link, places.previous, str(previous))
    steps.do(f"make {name} the current version", place_link, places.current, name)
    if not steps.dry_run:
        place_units(steps, places, places.versions / name)
        place_drop_ins(steps, places, places.versions / name)
    # Unless there is another command of its name.
    if not os.path.lexists(places.command):
        target = "/opt/edge-agent/current/bin/edge-agent"
        steps.do(f"link {places.command} to it", place_link, places.command, target)


def _restart(steps: Steps, places: Places, before: _Before, files: Files | None, units: Sequence[str]) -> None:
    """Start the current version, or go back to the one before. All agents of the device run one version."""
    try:
        _start_all(units)
    except ServiceError as exc:
        reason = _last_lines()
        if not (places.current / _READY).exists():
            (places.current / _FAILED).touch()
        if files is not None:
            files.put_back()
        if not before.was_ready and places.units_before:
            _back_to_others(steps, places, reason, exc)
        if before.good is None:
            raise ServiceError("the service does not start", *reason, str(exc)) from exc
        _switch(steps, places, before.good, before.previous)
        if before.previous in (None, before.good):
            places.previous.unlink(missing_ok=True)
        try:
            _start_all(units)
        except ServiceError as other:
            problem = f"it does not start, and neither does {before.good}, which ran before"
            raise ServiceError(problem, *reason, str(other)) from exc
        raise ServiceError(f"it does not start, so {before.good} runs again, as before", *reason) from exc
    (places.current / _READY).touch()
    (places.current / _FAILED).unlink(missing_ok=True)


def _back_to_others(steps: Steps, places: Places, reason: list[str], exc: ServiceError) -> NoReturn:
    """Nothing of ours was ever ready here, and a unit of somebody else was there: it runs again."""
    put_units_back(steps, places)
    systemctl("daemon-reload")
    systemctl("restart", SERVICE)
    raise ServiceError("it does not start, so the unit that was here before runs again", *reason) from exc


def _start_all(units: Sequence[str]) -> None:
    systemctl("daemon-reload")
    if units:
        systemctl("restart", *units)


def _last_lines() -> list[str]:
    """The end of what the service has logged."""
    command = ["journalctl", "-u", SERVICE, "-u", INSTANCES, "-n", str(_JOURNAL_LINES), "-o", "cat", "--no-pager", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()


def _tidy(places: Places) -> None:
    """Delete older versions, and nothing else that may lie there."""
    kept = {_target(places.current), _target(places.previous)}
    for description in places.versions.glob("*/program.json"):
        folder = description.parent
        if not folder.is_symlink() and folder.name not in kept:
            shutil.rmtree(folder)


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None
