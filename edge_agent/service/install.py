"""Puts a version of the agent beside the one that runs, proves it, and lets it take the other's place."""

from __future__ import annotations

import filecmp
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.errors import BundleError, ConfigError, ServiceError, UsageError
from edge_agent.files.plain import write_file
from edge_agent.service.places import INSTANCES, SERVICE, Places
from edge_agent.service.program import (
    Program,
    copy_program,
    furnish,
    gather,
    packages_in,
    program_at,
    python_here,
    trim,
    write_launcher,
)
from edge_agent.service.steps import Steps, is_booted, locked, place_link, systemctl
from edge_agent.terminal import say

__all__ = ["install", "roll_back"]

_PART = ".part-"
_CREDENTIALS = """\
# Written by edge-agent install: one line for each file of {folder}. The service alone sees them.
[Service]
"""
_JOURNAL_LINES = 8


@dataclass
class _Undo:
    """What was replaced, to be put back if the new version does not start."""

    files: list[tuple[Path, Path]] = field(default_factory=list)
    """Each with the one that was there before."""
    version: str | None = None
    """That ran before."""
    previous: str | None = None
    """That ran before that one."""


def install(
    *,
    program: Path | None = None,
    config: Path | None = None,
    bundles: Sequence[Path] = (),
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
        bundles: that it names.
        places: where everything goes.
        replace_config: put `config` in the place of one that is there and is different.
        start: start the service, and wait until it is ready.
        dry_run: only say what would be done.

    Raises:
        BundleError: `program` is none, or for another machine; or the configuration names a bundle that is not there.
        ConfigError: there is no configuration, or it is wrong.
        ServiceError: the service does not start; what ran before runs again.
        UsageError: this is not root, another such command is at work, or there is no systemd.
    """
    places = places or Places()
    steps = Steps(dry_run=dry_run)
    if start and not is_booted():
        raise UsageError("systemd does not run this machine; --no-start installs for the next boot")
    if places.packaged.exists():
        raise UsageError(f"{places.packaged}: the service is a Debian package here; upgrade it: apt install ./FILE.deb")
    _refuse_missing(config, bundles, places)
    if dry_run:
        _install(steps, places, program, config, bundles, replace_config=replace_config, start=start)
        return
    with locked(places.lock):
        _install(steps, places, program, config, bundles, replace_config=replace_config, start=start)


def roll_back(*, places: Places | None = None, dry_run: bool = False) -> None:
    """Let the version run again that ran before, and keep this one for another rollback.

    Configuration and bundles stay as they are.

    Raises:
        ServiceError: it does not start; then what ran until now runs again.
        UsageError: there is none, or this is not root.
    """
    places = places or Places()
    steps = Steps(dry_run=dry_run)
    now, before = _target(places.current), _target(places.previous)
    if before is None or now is None:
        raise UsageError(f"{places.previous}: no version ran before this one")
    if dry_run:
        _switch(steps, places, before, _Undo(version=now))
        return
    with locked(places.lock):
        undo = _Undo(version=now, previous=before)
        _switch(steps, places, before, undo)
        if is_booted():
            steps.do("start it and wait until it is ready", _restart, steps, places, undo)


def _refuse_missing(config: Path | None, bundles: Sequence[Path], places: Places) -> None:
    if config is None and not places.config.exists():
        raise ConfigError(f"{places.config}: no such file; give --config FILE")
    for path in (*bundles, *(() if config is None else (config,))):
        if not path.is_file():
            raise UsageError(f"{path}: no such file")


def _install(
    steps: Steps,
    places: Places,
    source: Path | None,
    config: Path | None,
    bundles: Sequence[Path],
    *,
    replace_config: bool,
    start: bool,
) -> None:
    undo = _Undo(version=_target(places.current), previous=_target(places.previous))
    name = _place_program(steps, places, source)
    try:
        for bundle in bundles:
            _place_file(steps, bundle, places.settings / bundle.name, undo, replace=True)
        if config is not None:
            _place_file(steps, config, places.config, undo, replace=replace_config)
        steps.do(f"make {places.credentials}, for secrets", _make_private, places.credentials)
        if not steps.dry_run:
            _place_drop_ins(steps, places, places.versions / name)
        if start:
            steps.do("check the configuration by the new version", _check, places, name)
        _switch(steps, places, name, undo)
    except BaseException:
        _put_back(steps, undo)
        raise
    steps.do("let the next boot start it", systemctl, "enable", SERVICE)
    if start:
        waiting = "start it and wait until it is ready; a first start measures the providers"
        steps.do(waiting, _restart, steps, places, undo)
        if not steps.dry_run:
            say("it runs: systemctl status edge-agent; journalctl -u edge-agent -f")
    steps.do("delete versions that neither run nor ran before", _tidy, places)


def _place_program(steps: Steps, places: Places, source: Path | None) -> str:
    """Put the new version beside the others; gives its name."""
    if steps.dry_run:
        say(f"would put this version of the agent into {places.versions}/VERSION")
        return "VERSION"
    part = Path(tempfile.mkdtemp(prefix=_PART, dir=places.versions))
    part.chmod(0o755)
    tree = part / "program"
    say(f"copy this version of the agent to {places.versions}")
    program = _copy(source, tree)
    final = places.versions / program.name
    if final.exists() and program_at(final) == program:
        say(f"{final} is there already")
        shutil.rmtree(part)
        return program.name
    write_launcher(tree, Path("/opt/edge-agent") / program.name)
    # The name of the source file in the byte code is where it will lie.
    _compile(tree, packages_in(tree, program.python), final)
    os.sync()
    if final.exists():
        shutil.rmtree(final)
    tree.rename(final)
    part.rmdir()
    return program.name


def _copy(source: Path | None, tree: Path) -> Program:
    machine, python = platform.machine(), python_here()
    interpreter = os.path.realpath("/proc/self/exe")
    if source is not None:
        program = program_at(source)
        if (program.machine, program.python) != (machine, python):
            raise BundleError(
                f"{source}: is for Python {program.python} on {program.machine}, and this is {python} on {machine}"
            )
        copy_program(source, tree, interpreter)
        return program
    packages = packages_in(tree, python)
    runtime = gather(packages)
    trim(packages)
    return furnish(tree, python=python, machine=machine, runtime=runtime, interpreter=interpreter)


def _compile(tree: Path, packages: Path, final: Path) -> None:
    """Byte code by hash, and unchecked: copies and packages change the times that Python else goes by."""
    within = final / packages.relative_to(tree)
    command = [
        str(tree / "bin" / "python3"),
        "-m",
        "compileall",
        "-qq",
        "-j0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(packages),
        "-p",
        str(within),
        str(packages),
    ]
    # A file of a package that this Python cannot compile is none that it imports.
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _place_file(steps: Steps, source: Path, target: Path, undo: _Undo, *, replace: bool) -> None:
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    before = target.with_name(f"{target.name}.before")
    if not target.exists():
        steps.do(f"put {source.name} to {target}", _write, source, target)
    elif not replace:
        new = target.with_name(f"{target.name}.new")
        text = f"keep {target}, which is different, and put {source.name} beside it as {new.name} (--replace-config)"
        steps.do(text, _write, source, new)
    else:
        steps.do(f"put {source.name} to {target}, and keep the other as {before.name}", _write, target, before)
        if not steps.dry_run:
            _write(source, target)
            undo.files.append((target, before))


def _write(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, source.read_bytes(), mode=0o644)


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def _place_drop_ins(steps: Steps, places: Places, version: Path) -> None:
    """Write what is added to the unit because of this runtime and these secrets, and delete what no longer is."""
    secrets = sorted(path.name for path in places.credentials.glob("*") if path.is_file()) if _is_root() else []
    lines = "".join(f"LoadCredential={name}:{places.credentials / name}\n" for name in secrets)
    openvino = (version / "systemd" / "openvino.conf").read_text()
    wanted = {
        "50-openvino.conf": openvino if program_at(version).runtime == "openvino" else "",
        "50-credentials.conf": _CREDENTIALS.format(folder=places.credentials) + lines if lines else "",
    }
    for name, text in wanted.items():
        path = places.drop_ins / name
        if text:
            _place_text(steps, path, text)
        elif path.exists():
            steps.do(f"delete {path}", path.unlink)


def _place_text(steps: Steps, path: Path, text: str) -> None:
    """Write a file of ours, unless it is there as it should be."""

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode(), mode=0o644)

    if not path.exists() or path.read_text() != text:
        steps.do(f"write {path}", write)


def _is_root() -> bool:
    return os.geteuid() == 0


def _check(places: Places, name: str) -> None:
    command = [str(places.versions / name / "bin" / "edge-agent"), "check", "--config", str(places.config)]
    # Run by root, it looks as the service's user would.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    lines = [line.removeprefix("edge-agent: ") for line in done.stderr.strip().splitlines()] or ["it gave no reason"]
    if lines[0].startswith("Traceback"):
        lines = lines[-1:]
    error = {ConfigError.exit_code: ConfigError, BundleError.exit_code: BundleError}.get(done.returncode, ServiceError)
    raise error(*lines, "nothing was changed that runs")


def _switch(steps: Steps, places: Places, name: str, undo: _Undo) -> None:
    """Make a version the current one, by one rename."""
    if undo.version not in (None, name):
        steps.do(f"remember {undo.version} for a rollback", place_link, places.previous, str(undo.version))
    steps.do(f"make {name} the current version", place_link, places.current, name)
    # A copy, because /opt may be mounted after systemd has read its units. All name `current`, and fit any version.
    if not steps.dry_run:
        for unit in sorted((places.versions / name / "systemd").glob("*.service")):
            _place_text(steps, places.units / unit.name, unit.read_text())
    _place_command(steps, places)


def _place_command(steps: Steps, places: Places) -> None:
    """Put the command where a shell finds it, unless there is another one of its name."""
    link, target = places.command, "/opt/edge-agent/current/bin/edge-agent"
    if not os.path.lexists(link):
        steps.do(f"link {link} to it", place_link, link, target)


def _restart(steps: Steps, places: Places, undo: _Undo) -> None:
    """Start the current version, or go back to the one before. All agents of the device run one version."""
    try:
        _start_all()
    except ServiceError as exc:
        reason = _last_lines()
        if undo.version is None:
            raise ServiceError("the service does not start", *reason, str(exc)) from exc
        _put_back(steps, undo)
        _switch(steps, places, undo.version, _Undo())
        if undo.previous is not None:
            place_link(places.previous, undo.previous)
        else:
            places.previous.unlink(missing_ok=True)
        try:
            _start_all()
        except ServiceError as other:
            problem = f"it does not start, and neither does {undo.version}, which ran before"
            raise ServiceError(problem, *reason, str(other)) from exc
        raise ServiceError(f"it does not start, so {undo.version} runs again, as before", *reason) from exc


def _start_all() -> None:
    systemctl("daemon-reload")
    systemctl("restart", SERVICE)
    # Those of the template that run; the pattern is systemd's own, and none is no error.
    systemctl("restart", INSTANCES)


def _put_back(steps: Steps, undo: _Undo) -> None:
    for target, before in undo.files:
        steps.do(f"put {before.name} back", before.replace, target)
    undo.files.clear()


def _last_lines() -> list[str]:
    """The end of what the service has logged."""
    command = ["journalctl", "-u", SERVICE, "-u", INSTANCES, "-n", str(_JOURNAL_LINES), "-o", "cat", "--no-pager", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()


def _tidy(places: Places) -> None:
    kept = {_target(places.current), _target(places.previous)}
    for folder in places.versions.iterdir():
        if folder.is_dir() and not folder.is_symlink() and folder.name not in kept:
            shutil.rmtree(folder)


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None
