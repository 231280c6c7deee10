"""A version of the agent in one folder, with all that it needs: a virtual environment without pip.

    bin/python3             a link to the system's Python
    bin/edge-agent          the command
    lib/python3.X/site-packages
    systemd/                the units of this version
    program.json            what it is

Only the standard library is imported here: an archive for a device without a network is installed by this module,
before anything is in its place.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import edge_agent
from edge_agent.errors import BundleError, MissingExtraError

__all__ = [
    "RUNTIMES",
    "Program",
    "copy_program",
    "copy_self",
    "furnish",
    "gather",
    "packages_in",
    "program_at",
    "python_here",
    "trim",
    "write_launcher",
]

RUNTIMES = {"cpu": "onnxruntime", "openvino": "onnxruntime-openvino"}
"""The package that an extra brings."""
_OPTIONAL = ("asyncua", "prometheus-client", "pymodbus", "pynacl")
"""Packages that extras of the device bring, and that an installation may have."""
_DESCRIPTION = "program.json"
_UNUSED = (
    "*/tests",
    "numpy/f2py",
    "numpy/distutils",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "bin",
)
"""Folders in packages that the agent never imports. None of them holds a licence."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a folder holds."""

    version: str
    """Of the agent."""
    python: str
    """It needs, such as 3.11."""
    machine: str
    """It is for, as `platform.machine()` says it."""
    runtime: str
    """The extra of its runtime: `cpu` or `openvino`."""
    digest: str
    """SHA-256 over the names and contents of all packages' files, byte code left out."""

    @property
    def name(self) -> str:
        """Tells it from every other one, another build of the same version too."""
        return f"{self.version}-{self.digest[:8]}"


def packages_in(root: Path, python: str) -> Path:
    """The folder of packages in a program."""
    return root / "lib" / f"python{python}" / "site-packages"


def program_at(root: Path) -> Program:
    """What a folder holds.

    Raises:
        BundleError: it is none.
    """
    try:
        return Program(**json.loads((root / _DESCRIPTION).read_bytes()))
    except (OSError, ValueError, TypeError) as exc:
        raise BundleError(f"{root}: holds no program of edge-agent ({exc})") from exc


def furnish(root: Path, *, python: str, machine: str, runtime: str, interpreter: str) -> Program:
    """Make a program of a folder that has its packages already.

    Args:
        root: of it.
        python: that it needs, such as 3.11.
        machine: that it is for.
        runtime: the extra of its runtime.
        interpreter: Python's path on the device.
    """
    packages = packages_in(root, python)
    program = Program(edge_agent.__version__, python, machine, runtime, _digest(packages))
    _link_python(root, python, interpreter)
    shutil.copytree(packages / "edge_agent" / "systemd", root / "systemd", dirs_exist_ok=True)
    (root / _DESCRIPTION).write_text(json.dumps(asdict(program), indent=2) + "\n")
    return program


def _link_python(root: Path, python: str, interpreter: str) -> None:
    """Make it a virtual environment of an interpreter, as `pyvenv.cfg` says to that."""
    link = root / "bin" / "python3"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(interpreter)
    home = Path(interpreter).parent
    (root / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = {python}\n")


def copy_program(source: Path, target: Path, interpreter: str) -> None:
    """Copy a program, for another interpreter of the same version of Python."""
    shutil.copytree(source, target, symlinks=True)
    # As whoever unpacked it may have another umask.
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    _link_python(target, program_at(source).python, interpreter)


def write_launcher(root: Path, final: Path) -> None:
    """Write `bin/edge-agent`.

    Args:
        root: of the program.
        final: where it will lie. The command names the interpreter by that path: so the process has the command's name.
    """
    path = root / "bin" / "edge-agent"
    path.write_text(f"#!{final}/bin/python3 -Ps\nimport sys\n\nfrom edge_agent.cli import main\n\nsys.exit(main())\n")
    path.chmod(0o755)


def gather(packages: Path) -> str:
    """Copy this installation's packages, those of its extras too, with all that they need and nothing else.

    Returns:
        The extra of the runtime.

    Raises:
        MissingExtraError: no runtime is installed.
    """
    found = [extra for extra, package in RUNTIMES.items() if _distribution(package) is not None]
    if not found:
        raise MissingExtraError("onnxruntime", "cpu")
    runtime = found[-1]
    wanted, copied = ["numpy", "paho-mqtt", "msgspec", RUNTIMES[runtime], *_OPTIONAL], set[str]()
    while wanted:
        name = wanted.pop()
        distribution = _distribution(name)
        if distribution is None or name in copied:
            continue
        copied.add(name)
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            # Programs lie outside, and byte code is made anew.
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                _copy(source, packages.joinpath(*file.parts))
        wanted += [_plain_name(line) for line in distribution.requires or () if "extra ==" not in line]
    copy_self(packages)
    return runtime


def copy_self(packages: Path) -> None:
    """Copy the agent's own package, from wherever it is imported."""
    source = Path(edge_agent.__path__[0])
    shutil.copytree(source, packages / "edge_agent", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    # In a checkout of the project they lie beside the package, and the wheel has them inside.
    beside = source.parent / "systemd"
    if beside.is_dir() and not (source / "systemd").is_dir():
        shutil.copytree(beside, packages / "edge_agent" / "systemd", dirs_exist_ok=True)


def trim(packages: Path) -> None:
    """Delete what the agent never imports, also from the packages' own lists of their files."""
    for pattern in _UNUSED:
        for folder in [*packages.rglob(pattern[2:])] if pattern.startswith("*/") else [*packages.glob(pattern)]:
            if folder.is_dir():
                shutil.rmtree(folder)
    for record in packages.glob("*.dist-info/RECORD"):
        with record.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row and (packages / row[0]).is_file()]
        with record.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _digest(packages: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(_files_in(packages)):
        total.update(f"{path.relative_to(packages).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(parent, name) for name in files)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)


def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _plain_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return "" if found is None else found[0]


def python_here() -> str:
    """The version of Python that runs this, such as 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
