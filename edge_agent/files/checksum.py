"""A checksum behind what we write for ourselves."""

from __future__ import annotations

import zlib

__all__ = ["seal", "unseal"]

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
