"""`edgetool deploy`: bundles and a configuration become one archive that installs the agent on a device."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.errors import UsageError
from edge_agent.service.instances import unit_named
from edge_agent.service.program import copy_self, furnish, packages_in, trim
from edgetool.deployment.archive import INSTALLER, container_file, write_archive, write_sums
from edgetool.deployment.content import read_content
from edgetool.deployment.debian import Package, write_package
from edgetool.deployment.packages import fetch
from edgetool.deployment.remote import is_device, look_at
from edgetool.deployment.target import Target
from edgetool.paths import StrPath

__all__ = ["DeployReport", "deploy"]


@dataclass(frozen=True, slots=True)
class DeployReport:
    """What `deploy` made."""

    archive: Path
    """With everything; where it was installed over ssh, it is gone."""
    target: Target
    version: str
    """Of the agent."""
    bundles: tuple[str, ...]
    files: tuple[str, ...]
    """Other files that the configuration names: certificates, libraries of operators."""
    wanted: tuple[str, ...]
    """A line for each file that the device must have besides."""
    size_bytes: int
    installed_bytes: int
    """Of the program on the device, byte code left out."""
    host: str | None
    """It was installed there, over ssh."""
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "archive": None if self.host else str(self.archive),
            "host": self.host,
            "version": self.version,
            "machine": self.target.machine,
            "python": self.target.python,
            "runtime": self.target.runtime,
            "bundles": list(self.bundles),
            "files": list(self.files),
            "wanted": list(self.wanted),
            "size_bytes": self.size_bytes,
            "installed_bytes": self.installed_bytes,
            "seconds": round(self.seconds, 3),
        }


def deploy(
    bundles: Sequence[StrPath],
    *,
    config: StrPath,
    to: str,
    machine: str = "x86_64",
    python: str = "3.11",
    runtime: str = "cpu",
    deb: bool = False,
    name: str | None = None,
    replace_config: bool = False,
) -> DeployReport:
    """Make one archive of the agent, all packages that it needs, bundles and a configuration.

    Args:
        bundles: those that the configuration names.
        config: agent.toml. It names each bundle by its file name alone, or as it will lie in /etc/edge-agent.
            Certificates and libraries of operators beside it are taken along; secrets never are.
        to: a folder for the archive, which is made unless it is a name alone; or `user@host` or `ssh://user@host:port`,
            on which it is installed by the system's own ssh.
        machine: the device's architecture, `x86_64` or `aarch64`.
        python: version of the device's Python.
        runtime: the extra of the runtime, `cpu` or `openvino`.
        deb: write a Debian package in place of the archive.
        name: install it as edge-agent@NAME, one of several agents on the device; as edge-agent when None.
        replace_config: the configuration takes the place of another one that the device has.

    Raises:
        BundleError: one is none.
        ConfigError: the configuration has problems, or names a bundle that is not given.
        ServiceError: a package cannot be had; or the device cannot be reached, or does not take it.
        UsageError: there are no packages for such a device; or `to` may be a folder or a device.
    """
    started = time.monotonic()
    target = Target(machine, python, runtime)
    options = [*(() if name is None else ("--name", name)), *(("--replace-config",) if replace_config else ())]
    unit_named(name)  # refused here, before anything is fetched
    to_device = is_device(to)
    if deb and (to_device or options):
        given = f"--to {to}" if to_device else options[0]
        raise UsageError(f"{given}: not with --deb, whose package is written into a folder, and holds the agent.toml")
    content = read_content(Path(config), [Path(bundle) for bundle in bundles])
    device = look_at(to, target) if to_device else None
    with tempfile.TemporaryDirectory(prefix="edgetool-") as made:
        scratch = Path(made)
        root = scratch / f"edge-agent-{__version__}-{runtime}-{machine}-python{python}"
        program = root / "program"
        packages = packages_in(program, python)
        packages.mkdir(parents=True)
        fetch(target, packages, content.extras)
        copy_self(packages)
        trim(packages)
        described = furnish(
            program, python=python, machine=machine, runtime=runtime, interpreter=f"/usr/bin/python{python}"
        )
        installed = sum(path.stat().st_size for path in program.rglob("*") if path.is_file())
        given = " ".join([*options, content.put(root / "files")])
        folder = scratch if device else Path(to)
        folder.mkdir(parents=True, exist_ok=True)
        if deb:
            package = Package(described)
            archive = folder / package.file_name
            write_package(package, program, root / "files", _licence(), archive, scratch / "deb")
        else:
            archive = folder / f"{root.name}.tar.gz"
            _write_archive(root, target, given, archive)
        size = archive.stat().st_size
        if device:
            device.install(archive)
    return DeployReport(
        archive=archive,
        target=target,
        version=__version__,
        bundles=tuple(path.name for path in content.bundles),
        files=tuple(path.name for path in content.others),
        wanted=content.wanted,
        size_bytes=size,
        installed_bytes=installed,
        host=None if device is None else device.host,
        seconds=time.monotonic() - started,
    )


def _write_archive(root: Path, target: Target, given: str, archive: Path) -> None:
    installer = root / "install.sh"
    installer.write_text(INSTALLER.format(python=target.python, machine=target.machine, given=given))
    installer.chmod(0o755)
    (root / "Containerfile").write_text(container_file(__version__, target.python))
    write_sums(root)
    write_archive(root, archive)


def _licence() -> str:
    """The text of the agent's licence, where this was installed with it."""
    above = Path(__file__).parents[3] / "LICENSE"
    if above.is_file():
        return above.read_text()
    files = [file for file in metadata.files("edge-agent") or () if file.name == "LICENSE"]
    return files[0].read_text() if files else "Apache-2.0\n"
