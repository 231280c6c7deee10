"""A checksum behind what we write for ourselves, and the hash by which a file is known to others."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

__all__ = ["file_hash", "seal", "unseal"]

_SEAL_BYTES = 9


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


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal digits; the file is not kept in memory.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
