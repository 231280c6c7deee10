"""Installs an archive on a device, over the system's own ssh: its keys, ports and jump hosts are as ssh is set up."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_agent.errors import ServiceError, UsageError
from edgetool.deployment.target import Target

__all__ = ["Device", "is_device", "look_at"]

_FOLDER = ".edge-agent-deploy"
"""In the home of the user on the device, there while it is installed."""
_OWN_FAILURE = 255
"""What ssh ends with where it is not the command that has failed."""
_LOOK = """\
echo "edgetool: machine=$(uname -m)"
echo "edgetool: python=$(command -v python{python})"
echo "edgetool: newest=$(python3 --version 2>/dev/null)"
[ -d /run/systemd/system ] && echo "edgetool: systemd=yes"
if [ "$(id -u)" = 0 ]; then echo "edgetool: root=yes"
elif ! command -v sudo >/dev/null; then echo "edgetool: root=no"
elif sudo -n true 2>/dev/null; then echo "edgetool: root=sudo"
else echo "edgetool: root=password"; fi
"""
"""Each line has a mark, because a login may print more."""
_UNPACK = """\
rm -rf {folder} && mkdir {folder} && tar -xzf - -C {folder} --strip-components=1 || {{ rm -rf {folder}; exit 9; }}
"""
_INSTALL = """\
cd {folder} || exit; if [ "$(id -u)" = 0 ]; then sh install.sh; else sudo sh install.sh; fi
status=$?; cd; rm -rf {folder}; exit $status
"""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that was found good for what is to be installed."""

    host: str
    """As ssh takes it."""

    def install(self, archive: Path) -> None:
        """Copy an archive there and run its installer, as root or by sudo.

        Args:
            archive: made for that device.

        Raises:
            ServiceError: it was not copied, or the installer has failed.
        """
        with archive.open("rb") as file:
            code = _ssh(self.host, _UNPACK.format(folder=_FOLDER), stdin=file)
        if code:
            size = f"{archive.stat().st_size / 1e6:.0f} MB"
            raise ServiceError(
                f"{self.host}: the archive ({size}, and three times that unpacked) could not be put into the home "
                "folder there, and what there was of it is deleted; why stands above, as when the disk is full"
            )
        # A terminal where there is one, because sudo may ask for a password.
        terminal = ["-t"] if sys.stdin.isatty() else []
        code = _ssh(self.host, _INSTALL.format(folder=_FOLDER), *terminal)
        if code:
            raise ServiceError(f"{self.host}: the installer ended with {code}; what it said stands above")


def is_device(to: str) -> bool:
    """Whether this is a device for ssh, and not a folder.

    Raises:
        UsageError: it is a name alone that no folder has, as ssh's own names of devices are.
    """
    is_name = Path(to).name == to
    if is_name and "@" not in to and not Path(to).is_dir():
        raise UsageError(
            f"--to {to}: there is no such folder, and a device may be meant; give ./{to} for a folder that is to be "
            f"made, or USER@{to} for a device, or ssh://{to} where ssh knows the user"
        )
    return to.startswith("ssh://") or (is_name and "@" in to)


def look_at(host: str, target: Target) -> Device:
    """See that a device can be reached, and is what an archive is to be made for; nothing is changed there.

    Args:
        host: `user@host` or `ssh://user@host:port`.
        target: what the archive is to be for.

    Raises:
        ServiceError: it cannot be reached, is another machine, or does not let this user install anything.
    """
    try:
        code, said = _ask(host, _LOOK.format(python=target.python))
    except OSError as exc:
        raise ServiceError(f"ssh cannot be started: {exc.strerror}; install the OpenSSH client") from exc
    found = dict(re.findall(r"^edgetool: (\w+)=(.*?)\r?$", said, re.MULTILINE))
    if code == _OWN_FAILURE or "machine" not in found:
        raise ServiceError(
            f"{host}: cannot be reached by ssh, which has said why above; try it by hand: ssh {shlex.quote(host)} true"
        )
    problems: list[str] = []
    if found["machine"] != target.machine:
        problems.append(
            f"is {found['machine']}, and the archive is for {target.machine}; give --arch {found['machine']}"
        )
    if not found["python"]:
        newest = re.search(r"\d+\.\d+", found.get("newest", ""))
        other = f"its python3 is {newest[0]}; give --python {newest[0]}" if newest else "it has no python3"
        problems.append(f"has no python{target.python} on the path; {other}, or install that")
    if "systemd" not in found:
        problems.append("is not run by systemd; for a container: edgetool deploy --to DIR, and docs/operations.md")
    if found["root"] == "no":
        problems.append("this user is not root and there is no sudo; give root@HOST, or install sudo for the user")
    if found["root"] == "password" and not sys.stdin.isatty():
        problems.append("sudo asks for a password there, and here is no terminal; run this in one, or give root@HOST")
    if problems:
        raise ServiceError(*(f"{host}: {problem}" for problem in problems), "nothing was copied")
    return Device(host)


def _ask(host: str, script: str) -> tuple[int, str]:
    done = subprocess.run(
        _command(host, script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stdout


def _ssh(host: str, script: str, *options: str, stdin: IO[bytes] | None = None) -> int:
    # What is asked for with --json is one document.
    return subprocess.run(_command(host, script, *options), stdin=stdin, stdout=sys.stderr, check=False).returncode


def _command(host: str, script: str, *options: str) -> list[str]:
    # By sh, whatever shell the user has there.
    return ["ssh", *options, "--", host, f"sh -c {shlex.quote(script)}"]
