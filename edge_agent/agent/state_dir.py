"""The agent's state folder, which belongs to one agent at a time."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import ConfigError

__all__ = ["locked_state_dir"]

log = logging.getLogger(__name__)

_DISK_TROUBLE = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}


@contextmanager
def locked_state_dir(state_dir: Path) -> Iterator[None]:
    """Make the state folder if need be, and keep a second agent out of it inside the block.

    Raises:
        ConfigError: it cannot be written, or another agent uses it. A disk that is full, broken or read-only is
            another matter: the agent does its work without it, and says so.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        if exc.errno in _DISK_TROUBLE:
            log.error("state folder not locked, nothing can be written state_dir=%s error=%s", state_dir, exc.strerror)  # noqa: TRY400
            yield
            return
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: cannot be written ({exc.strerror})") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: another edge-agent is using it") from exc
    try:
        yield
    finally:
        os.close(descriptor)
