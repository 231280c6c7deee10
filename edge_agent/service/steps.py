"""What is done on a device, step by step: each is said before it is done, or only said."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from edge_agent.errors import ServiceError, UsageError
from edge_agent.terminal import drop_output, say

SYSTEMCTL = shutil.which("systemctl") or "/usr/bin/systemctl"

__all__ = ["SYSTEMCTL", "Steps", "active_units", "is_booted", "locked", "place_link", "systemctl"]


_P = ParamSpec("_P")


class Steps:
    """Says each step, and does it.

    Args:
        dry_run: only say it.
    """

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run

    def tell(self, text: str) -> None:
        """Say something; whoever listened may have gone, and what was begun is done all the same."""
        try:
            say(f"would {text}" if self.dry_run else text)
        except BrokenPipeError:
            drop_output()

    def do(self, text: str, action: Callable[_P, object], *given: _P.args, **named: _P.kwargs) -> None:
        """Say what is done, and do it, by what the action is given."""
        self.tell(text)
        if not self.dry_run:
            action(*given, **named)


def is_booted() -> bool:
    """True if systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def systemctl(*arguments: str) -> None:
    """Ask systemd for something, and wait for it.

    Raises:
        ServiceError: it is not done, or there is no systemd.
    """
    try:
        done = subprocess.run([SYSTEMCTL, *arguments], capture_output=True, text=True, check=False)
    except OSError as exc:
        raise ServiceError(f"systemctl {' '.join(arguments)}: {exc}") from exc
    if done.returncode:
        raise ServiceError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")


def active_units(pattern: str) -> list[str]:
    """Units that match a pattern and run, or are on the way there."""
    if not is_booted():
        return []
    states = "--state=active,activating,reloading"
    command = [SYSTEMCTL, "list-units", "--plain", "--no-legend", "--no-pager", states, pattern]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def place_link(link: Path, target: str) -> None:
    """Let a link point elsewhere, in one step: whoever looks sees the old one or the new one."""
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A context for the one command that may change the installation.

    Raises:
        UsageError: another one is at it, or this is not root.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as exc:
        raise UsageError(f"{path.parent}: {exc.strerror}; run this as root") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise UsageError(f"{path}: another edge-agent install, rollback or uninstall is at work") from exc
    finally:
        os.close(file)
