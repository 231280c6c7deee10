"""The agent's state folder, which belongs to one agent at a time, and to nobody else."""

from __future__ import annotations

import errno
import fcntl
import grp
import logging
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from edge_agent.errors import ConfigError

__all__ = ["check_state_dir", "is_in_memory", "is_in_use", "locked_state_dir"]

log = logging.getLogger(__name__)

_LOCK = "agent.lock"
_DISK_TROUBLE = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}


def check_state_dir(state_dir: Path, *, allow_unsafe: bool) -> None:
    """See that nobody else may write in the state folder, or put another one in its place.

    Whoever can do so changes limits, acknowledges what was never scored, or says which provider is right.

    Args:
        state_dir: need not exist.
        allow_unsafe: the operator takes it upon themselves, so it is only told.

    Raises:
        ConfigError: others may.
    """
    where = f"[agent] state_dir = {str(state_dir)!r}"
    real = state_dir.resolve()
    # Also the folders that the path names: a link in one of them could be put elsewhere.
    for folder in dict.fromkeys((real, *real.parents, *state_dir.absolute().parents)):
        problem = _opening(folder, is_inside=folder == real)
        if problem is None:
            continue
        text = f"{where}: {problem}, so others can change limits and alerts"
        if not allow_unsafe:
            raise ConfigError(f"{text}; {_remedy(folder)}, or set allow_unsafe_state_dir = true")
        log.warning("%s; allowed by allow_unsafe_state_dir", text)


def _remedy(folder: Path) -> str:
    # A folder like /tmp is everybody's on purpose.
    return "give a folder inside it" if folder.stat().st_mode & stat.S_ISVTX else f"chmod go-w {quote(str(folder))}"


def _opening(folder: Path, *, is_inside: bool) -> str | None:
    """Who else may write to a folder; None if nobody, or the folder is not there."""
    try:
        facts = folder.stat()
    except OSError:
        return None
    if not stat.S_ISDIR(facts.st_mode):
        return None  # told where it is to be used
    # In a folder like /tmp, others may make files and not take ours away.
    if facts.st_mode & stat.S_ISVTX and not is_inside:
        return None
    if facts.st_mode & stat.S_IWOTH:
        return f"{folder} can be written by everybody (mode {facts.st_mode & 0o7777:04o})"
    if facts.st_mode & stat.S_IWGRP and not _is_private(facts.st_gid, facts.st_uid):
        return f"{folder} can be written by group {facts.st_gid} (mode {facts.st_mode & 0o7777:04o})"
    return None


def _is_private(group: int, user: int) -> bool:
    """True for the group that some systems make for each user, in which nobody else is."""
    try:
        return grp.getgrgid(group).gr_mem == [] and pwd.getpwuid(user).pw_gid == group
    except KeyError:
        return False


def is_in_memory(state_dir: Path) -> bool:
    """Whether the folder is there and on no disk, so that a reboot clears it. False where that cannot be told."""
    try:
        device = state_dir.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    # The kind of file system is the first field behind the dash; how many there are before it differs.
    kinds = [line.partition(" - ")[2].split()[:1] for line in mounts if line.split()[2:3] == [number]]
    return any(kind in (["tmpfs"], ["ramfs"]) for kind in kinds)


def is_in_use(state_dir: Path) -> bool | None:
    """Whether an agent runs with this state folder; None if that cannot be told.

    The kernel's list of locks is read. To try the lock would keep an agent out that starts at this moment.
    """
    try:
        inode = (state_dir / _LOCK).stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False if Path("/proc/locks").exists() else None
    except OSError:
        return None
    return any("FLOCK" in line and line.split()[5].rpartition(":")[2] == str(inode) for line in locks)


@contextmanager
def locked_state_dir(state_dir: Path, *, warns: bool = True) -> Iterator[None]:
    """Make the state folder if need be, and keep a second agent out of it inside the block.

    Args:
        state_dir: need not exist.
        warns: whether a folder of another user is told; not where nothing is believed of what is in it.

    Raises:
        ConfigError: it cannot be written, or another agent uses it. A disk that is full, broken or read-only is
            another matter: the agent does its work without it, and says so.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever may read it could hold the lock, and so keep the agent from starting.
        descriptor = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        if exc.errno in _DISK_TROUBLE:
            log.error("state folder not locked, nothing can be written state_dir=%s error=%s", state_dir, exc.strerror)  # noqa: TRY400
            yield
            return
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: cannot be written ({exc.strerror})") from exc
    if warns and is_in_memory(state_dir):
        log.warning("state folder is in memory, a reboot clears it state_dir=%s", state_dir)
    owner = state_dir.stat().st_uid
    if warns and owner not in (os.geteuid(), 0):
        # An operator who tries the agent as root does this, so it is no reason not to start.
        log.warning("state folder belongs to another user, who can change limits and alerts user=%d", owner)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        advice = "stop it, or give each agent a folder of its own"
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: another edge-agent is using it; {advice}") from exc
    try:
        yield
    finally:
        os.close(descriptor)
