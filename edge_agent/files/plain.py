"""Plain files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["create_file", "read_file", "replacing", "sync_folder", "write_file"]

# Where the system has no such flag, it has no such files either.
_WARY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_NAME_KEPT = 40
"""Characters of its name in that of the file beside it: a name has at most 255 bytes, a character up to 4."""


def read_file(path: Path, limit_bytes: int = 1 << 20) -> bytes:
    """Read a plain file of the state folder, whoever may have put something else in its place.

    A link is not followed, and a pipe or a device is not waited for, not even to be opened.

    Args:
        path: of the file.
        limit_bytes: most bytes that such a file has.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | _WARY), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"it has more than {limit_bytes} bytes")
    return content


def create_file(path: Path) -> BinaryIO:
    """Open a plain file of the state folder to be written anew; see `read_file` for what is not opened.

    Raises:
        OSError: it cannot be written, or is no plain file.
    """
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _WARY, 0o600), "wb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file")
    return file


def write_file(path: Path, content: bytes, *, durable: bool = True, mode: int | None = None) -> None:
    """Write a file whole or not at all; see `replacing`.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with replacing(path, durable=durable, mode=mode) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end of the block, so that nobody ever sees half of it.

    A symbolic link stays one, and what it points to is replaced. A pipe, a device or an open descriptor (`/dev/stdout`)
    is written to directly.

    Args:
        path: of the file.
        durable: also a power cut leaves the old file or the new one, and after the block the new one: the file and its
            folder are synchronised, which takes milliseconds. False for what no other boot of the machine reads.
        mode: permission bits of the file; None for what the process's umask leaves.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    if (path.exists() and not path.is_file()) or _is_descriptor(path):
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    # Several processes, and threads of one, may write one file.
    beside = target.with_name(f".{target.name[:_NAME_KEPT]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            beside.chmod(mode)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(target.parent)


def _is_descriptor(path: Path) -> bool:
    """True for a file that is open already under another name: to replace it would leave its writers behind."""
    folder = os.path.realpath(path.parent)
    return path.is_symlink() and (folder == "/dev" or folder.startswith("/proc/"))


def sync_folder(folder: Path) -> None:
    """Let the disk have the names in a folder."""
    # Windows opens no folders, and some file systems cannot synchronise one; the file itself is on the disk.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
