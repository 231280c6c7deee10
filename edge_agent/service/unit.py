"""What a unit of systemd says about a service's user, and what that user can read."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ServiceUnit", "cannot_read", "read_unit", "unit_of"]

_TIMEOUT_S = 10.0
_DYNAMIC = range(61184, 65520)
"""Numbers of users that systemd makes for a service, by default."""
HIDDEN = {
    "/home": "ProtectHome=yes",
    "/root": "ProtectHome=yes",
    "/run/user": "ProtectHome=yes",
    "/tmp": "PrivateTmp=yes",  # noqa: S108 - nothing is written there
    "/var/tmp": "PrivateTmp=yes",  # noqa: S108
}
"""Folders that the service does not see, whoever it is, with the line of its unit that hides them."""


@dataclass
class ServiceUnit:
    """What matters of a unit here."""

    name: str
    is_known: bool
    """Whether systemd has such a unit; if not, the rest is that of the unit that we ship."""
    user: str | None = None
    """A user of the system; None for one that systemd makes."""
    groups: list[str] = field(default_factory=list)
    credentials: dict[str, Path] = field(default_factory=dict)
    """The file of each credential, by its name."""

    def ids(self) -> tuple[int, int, list[int]]:
        """Numbers of the user, its group and its further groups.

        Raises:
            KeyError: there is no such user or group.
        """
        groups = [grp.getgrnam(group).gr_gid for group in self.groups]
        if self.user is not None:
            known = pwd.getpwnam(self.user)
            return known.pw_uid, known.pw_gid, groups
        taken = {user.pw_uid for user in pwd.getpwall()}
        number = next(number for number in reversed(_DYNAMIC) if number not in taken)
        return number, number, groups


def unit_of(config: Path) -> str:
    """The unit that a configuration in /etc/edge-agent belongs to: NAME.toml to that of the template."""
    return "edge-agent.service" if config.name == "agent.toml" else f"edge-agent@{config.stem}.service"


def read_unit(name: str, text: str | None = None) -> ServiceUnit:
    """Read a unit with its drop-ins.

    Args:
        name: of the unit.
        text: as `systemctl cat` gives it; None asks that.
    """
    text = _ask(name) if text is None else text
    unit = ServiceUnit(name, is_known=bool(text))
    is_dynamic = True
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "DynamicUser":
            is_dynamic = value.lower() in ("yes", "true", "on", "1")
        elif key == "User":
            unit.user = value or None
        elif key == "SupplementaryGroups":
            unit.groups = [*unit.groups, *value.split()] if value else []
        elif key == "LoadCredential":
            credential, _, place = value.partition(":")
            # A name without a path, or with a relative one, is of systemd's own credential stores.
            if Path(place).is_absolute():
                unit.credentials[credential] = Path(place)
            elif not value:
                unit.credentials.clear()
    if is_dynamic:
        unit.user = None
    return unit


def _ask(name: str) -> str:
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return ""
    command = [systemctl, "cat", "--no-pager", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def cannot_read(
    paths: Sequence[Path], ids: tuple[int, int, list[int]], hidden: dict[str, str] = HIDDEN
) -> dict[Path, str]:
    """Which files a user cannot read, each with why. The calling process has to be root's.

    Args:
        paths: files, or folders.
        ids: of the user, its group and its further groups.
        hidden: folders in which the user sees nothing, with the reason.
    """
    found: dict[Path, str] = {}
    for path in paths:
        real = path.resolve()
        reason = next((why for place, why in hidden.items() if real.is_relative_to(place)), None)
        if reason is not None:
            found[path] = f"{reason} of the unit hides it"
    # What is not there for root either is told where it is opened.
    rest = [path for path in paths if path not in found and path.exists()]
    return found | {path: os.strerror(errno.EACCES) for path in _refused(ids, rest)}


def _refused(ids: tuple[int, int, list[int]], paths: Sequence[Path]) -> list[Path]:
    """Those that a user may not open. A shell asks, because a Python of root's may be one that the user cannot run."""
    user, group, groups = ids
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'for file; do if [ -r "$file" ]; then echo yes; else echo no; fi; done',
            "sh",
            *(str(path.absolute()) for path in paths),
        ],
        cwd="/",
        user=user,
        group=group,
        extra_groups=groups,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return [path for path, answer in zip(paths, done.stdout.split(), strict=True) if answer == "no"]
