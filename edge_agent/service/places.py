"""Where the service's files lie on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["INSTANCES", "SERVICE", "Places"]

SERVICE = "edge-agent.service"
"""The unit that `edge-agent install` enables."""
INSTANCES = "edge-agent@*.service"
"""Further agents on the device, each with a configuration of its name, as systemd reads a pattern."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files of the service.

    Args:
        root: of the file system; another one than `/` only for an image that is being built.
    """

    root: Path = Path("/")

    @property
    def versions(self) -> Path:
        """A folder for each version, and the links that say which one runs."""
        return self.root / "opt" / "edge-agent"

    @property
    def current(self) -> Path:
        """A link to the version that runs. The unit names this path, so that one rename changes both."""
        return self.versions / "current"

    @property
    def previous(self) -> Path:
        """A link to the version that ran before, for `edge-agent rollback`."""
        return self.versions / "previous"

    @property
    def lock(self) -> Path:
        """Held by the command that changes anything here."""
        return self.versions / ".lock"

    @property
    def settings(self) -> Path:
        """agent.toml and the bundles that it names."""
        return self.root / "etc" / "edge-agent"

    @property
    def config(self) -> Path:
        """What the service runs by."""
        return self.settings / "agent.toml"

    @property
    def staged(self) -> Path:
        """Configuration and bundles while they are checked."""
        return self.settings / ".next"

    @property
    def credentials(self) -> Path:
        """A file for each secret, readable by root alone; systemd hands them to the service."""
        return self.settings / "credentials"

    @property
    def units(self) -> Path:
        """Units that an administrator has added."""
        return self.root / "etc" / "systemd" / "system"

    @property
    def command(self) -> Path:
        """A link to the command of the version that runs."""
        return self.root / "usr" / "local" / "bin" / "edge-agent"

    @property
    def packaged(self) -> Path:
        """The unit of a Debian package, where the service is one."""
        return self.root / "usr" / "lib" / "systemd" / "system" / SERVICE

    @property
    def unit(self) -> Path:
        """That of the version that runs."""
        return self.units / SERVICE

    @property
    def units_before(self) -> list[Path]:
        """Units that somebody else had put there, and that an installation has replaced."""
        return sorted(self.units.glob("edge-agent*.service.before"))

    @property
    def drop_ins(self) -> tuple[Path, Path]:
        """Folders with what is added on this device, to the unit and to those of the template."""
        return self.units / f"{SERVICE}.d", self.units / f"{SERVICE.replace('.', '@.')}.d"

    @property
    def run_links(self) -> list[Path]:
        """By which units see their folders in /run; systemd takes the folders away at a stop, and leaves the links."""
        return [path for path in sorted((self.root / "run").glob("edge-agent*")) if path.is_symlink()]

    def states(self, unit: str) -> tuple[Path, Path]:
        """The folder with a unit's journal and what it measured, and the link by which it sees that.

        systemd makes both, for a user of the service's own.
        """
        name = unit.removesuffix(".service").replace("@", "-")
        folder = self.root / "var" / "lib"
        return folder / "private" / name, folder / name
