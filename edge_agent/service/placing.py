"""Puts a version of the agent, and what it runs by, where they belong; nothing here is started."""

from __future__ import annotations

import filecmp
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import BundleError, ServiceError
from edge_agent.files.plain import write_file
from edge_agent.service.places import Places
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
from edge_agent.service.steps import Steps

__all__ = ["Files", "clear_parts", "place_drop_ins", "place_program", "place_units", "put_units_back"]

_PART = ".part-"
_CREDENTIALS = """\
# Written by edge-agent install: one line for each file of {folder}. The service alone sees them.
[Service]
"""
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names that systemd takes as they are, and no file that an editor leaves."""


def clear_parts(places: Places) -> None:
    """Delete what an installation that was killed has left."""
    for part in places.versions.glob(f"{_PART}*"):
        shutil.rmtree(part)
    shutil.rmtree(places.staged, ignore_errors=True)


def place_program(steps: Steps, places: Places, source: Path | None) -> str:
    """Put a version beside the others.

    Args:
        steps: says what is done.
        places: where everything is.
        source: a folder with a program; this installation when None.

    Returns:
        Its name.

    Raises:
        BundleError: `source` is for another machine or Python.
    """
    if steps.dry_run:
        steps.tell(f"put this version of the agent into {places.versions}/VERSION")
        return "VERSION"
    steps.tell(f"copy this version of the agent to {places.versions}")
    part = Path(tempfile.mkdtemp(prefix=_PART, dir=places.versions))
    try:
        part.chmod(0o755)
        tree = part / "program"
        program = _copy(source, tree)
        final = places.versions / program.name
        if final.is_dir() and _is_same(final, program, tree):
            steps.tell(f"{final} is there already")
            return program.name
        write_launcher(tree, Path("/opt/edge-agent") / program.name)
        _compile(tree, packages_in(tree, program.python), final)
        os.sync()
        if final.is_dir():
            # A damaged one, or one of a Python that has moved.
            final.rename(part / "other")
        tree.rename(final)
        return program.name
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_same(final: Path, program: Program, tree: Path) -> bool:
    """A version that is there is this one, and its Python can be started."""
    try:
        is_here = (final / "bin" / "python3").resolve(strict=True) == (tree / "bin" / "python3").resolve()
        return is_here and program_at(final) == program and (final / "bin" / "edge-agent").exists()
    except (OSError, BundleError):
        return False


def _copy(source: Path | None, tree: Path) -> Program:
    machine, python = platform.machine(), python_here()
    # Of a virtual environment, the Python that it was made of.
    interpreter = os.path.realpath(sys.executable)
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
    # The name of the source file in it is where that will lie.
    names = ["-s", str(packages), "-p", str(final / packages.relative_to(tree))]
    command = [str(tree / "bin" / "python3"), "-m", "compileall", "-qq", "-j0", "--invalidation-mode", "unchecked-hash"]
    # A file of a package that this Python cannot compile is none that it imports.
    nowhere = subprocess.DEVNULL
    subprocess.run([*command, *names, str(packages)], check=False, stdout=nowhere, stderr=nowhere)


class Files:
    """Configuration and bundles of an installation: beside those that are there until they were found good.

    Args:
        steps: says what is done.
        places: where everything is.
        config: agent.toml; None where the one that is there stays.
        files: bundles and other files that it names.
        replace_config: `config` takes the place of another one.
        name: that the configuration has there.
    """

    def __init__(
        self,
        steps: Steps,
        places: Places,
        config: Path | None,
        files: Sequence[Path],
        *,
        replace_config: bool,
        name: str,
    ) -> None:
        self._steps = steps
        self._places = places
        wanted = {places.settings / file.name: file for file in files}
        self.config = places.settings / name
        """What the service is to run by."""
        self._beside: Path | None = None
        """A configuration that is not taken, because another one is there."""
        if config is not None and (replace_config or not self.config.exists()):
            wanted[self.config] = config
        elif config is not None and not filecmp.cmp(config, self.config, shallow=False):
            self._beside = config
        self._wanted = {
            target: source
            for target, source in wanted.items()
            if not target.exists() or not filecmp.cmp(source, target, shallow=False)
        }
        self._replaced: list[tuple[Path, Path | None]] = []

    def stage(self) -> Path:
        """Put what is new beside what is there, which is linked; gives the configuration to be checked."""
        staged = self._places.staged
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        new = {target.name: source for target, source in self._wanted.items()}
        for path in self._places.settings.iterdir():
            if path != staged and path.name not in new:
                (staged / path.name).symlink_to(path)
        for name, source in new.items():
            write_file(staged / name, source.read_bytes(), mode=0o644)
        return staged / self.config.name

    def take(self) -> None:
        """Put what is new into its place, and keep what was there as `.before`."""
        for target, source in self._wanted.items():
            if target.exists():
                before = target.with_name(f"{target.name}.before")
                text = f"put {source.name} to {target}, and keep the other as {before.name}"
                self._steps.do(text, self._replace, source, target, before)
            else:
                self._steps.do(f"put {source.name} to {target}", self._replace, source, target, None)
        if self._beside is not None:
            text = f"keep {self.config}, and put {self._beside.name} beside it as {self._new.name} (--replace-config)"
            self._steps.do(text, write_file, self._new, self._beside.read_bytes(), mode=0o644)
        elif self.config in self._wanted and self._new.exists():
            self._steps.do(f"delete {self._new}, of an earlier installation", self._new.unlink)
        shutil.rmtree(self._places.staged, ignore_errors=True)

    @property
    def _new(self) -> Path:
        return self.config.with_name(f"{self.config.name}.new")

    def remark(self) -> str | None:
        """What whoever installs has to know of what was not taken; None if all was."""
        if self._beside is None:
            return None
        return (
            f"NOT TAKEN: the configuration of this installation, and {self.config} is another one. The agent goes on "
            f"with that and its bundles; compare it with {self._new.name}, or install again with --replace-config"
        )

    def _replace(self, source: Path, target: Path, before: Path | None) -> None:
        if before is not None:
            write_file(before, target.read_bytes(), mode=0o644)
        self._replaced.append((target, before))
        write_file(target, source.read_bytes(), mode=0o644)

    def put_back(self) -> None:
        """Undo `take`, as far as it came."""
        shutil.rmtree(self._places.staged, ignore_errors=True)
        for target, before in reversed(self._replaced):
            if before is not None:
                self._steps.do(f"put {before.name} back", before.replace, target)
        self._replaced.clear()


def place_units(steps: Steps, places: Places, version: Path) -> None:
    """Write the units of a version.

    One that is none of ours is kept as `.before`. They are copies, because /opt may be mounted after systemd has read
    its units. Each names `current`, so it fits any version.

    Raises:
        ServiceError: one is masked, so that nothing could start it.
    """
    for unit in sorted((version / "systemd").glob("*.service")):
        target = places.units / unit.name
        if target.is_symlink() and str(target.readlink()) == os.devnull:
            raise ServiceError(f"{target}: the service is masked; run: systemctl unmask {unit.name}")
        if target.is_file() and not _is_ours(places, target):
            kept = target.with_name(f"{target.name}.before")
            steps.do(f"keep {target}, which is none of ours, as {kept.name}", shutil.copy2, target, kept)
        _place_text(steps, target, unit.read_text())


def _is_ours(places: Places, unit: Path) -> bool:
    """Whether some version that is here has brought this unit."""
    brought = places.versions.glob(f"*/systemd/{unit.name}")
    return any(filecmp.cmp(unit, other, shallow=False) for other in brought)


def put_units_back(steps: Steps, places: Places) -> None:
    """Undo what `place_units` has done to units of somebody else."""
    for kept in places.units_before:
        unit = kept.with_suffix("")
        steps.do(f"put {kept.name} back as {unit.name}", kept.replace, unit)


def place_drop_ins(steps: Steps, places: Places, version: Path) -> None:
    """Write what is added to the units because of a version's runtime and of the secrets here; delete what is not."""
    secrets = sorted(path.name for path in places.credentials.glob("*") if path.is_file())
    taken = [name for name in secrets if _CREDENTIAL.fullmatch(name)]
    lines = "".join(f"LoadCredential={name}:{places.credentials / name}\n" for name in taken)
    openvino = (version / "systemd" / "openvino.conf").read_text()
    wanted = {
        # A package has brought its own.
        "50-openvino.conf": openvino
        if program_at(version).runtime == "openvino" and not places.packaged.exists()
        else "",
        "50-credentials.conf": _CREDENTIALS.format(folder=places.credentials) + lines if lines else "",
    }
    for folder in places.drop_ins:
        for name, text in wanted.items():
            path = folder / name
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
