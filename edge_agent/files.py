"""Files that are whole or not there, and a checksum behind what we write for ourselves."""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing", "seal", "unseal", "write_file"]

_SEAL_BYTES = 9
_NAME_KEPT = 40
"""Characters of its name in that of the file beside it: a name has at most 255 bytes, a character up to 4."""


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
        _sync_folder(target.parent)


def _is_descriptor(path: Path) -> bool:
    """True for a file that is open already under another name: to replace it would leave its writers behind."""
    folder = os.path.realpath(path.parent)
    return path.is_symlink() and (folder == "/dev" or folder.startswith("/proc/"))


def _sync_folder(folder: Path) -> None:
    # Windows opens no folders, and some file systems cannot synchronise one; the file itself is on the disk.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def seal(content: bytes) -> bytes:
    """Content with its checksum, in a line of its own.

    A bit that changes on a disk would else give other numbers, and no error.
    """
    return b"%b\n%08x" % (content, zlib.crc32(content))


def unseal(sealed: bytes) -> bytes:
    """What was sealed.

    Raises:
        ValueError: it has changed since, or was never sealed.
    """
    content = sealed[:-_SEAL_BYTES]
    if seal(content) != sealed:
        raise ValueError("its checksum does not fit: it is damaged, or of an earlier version")
    return content
