"""A bundle that comes in pieces: what has come lies in a file, so that a cut costs one piece."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.update.wishes import BundlePart

__all__ = ["Fetch"]


class Fetch:
    """The file of a bundle that is on its way.

    Args:
        path: of the file, which may be there from before; anything that is no row of whole pieces is cut off.
        wanted: what is to come.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, wanted: BundlePart) -> None:
        self._wanted = wanted
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor: int | None = os.open(path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        whole = wanted.chunks if size == wanted.size_bytes else min(size // wanted.chunk_bytes, wanted.chunks - 1)
        os.truncate(self._descriptor, size if whole == wanted.chunks else whole * wanted.chunk_bytes)
        self.next = whole
        """Number of the piece that comes next."""

    @property
    def is_whole(self) -> bool:
        """True once all pieces are there; whether they are the right ones, the hash of the file says."""
        return self.next == self._wanted.chunks

    def takes(self, payload: bytes) -> bool:
        """True if a payload has the length of the next piece."""
        last = self._wanted.size_bytes - (self._wanted.chunks - 1) * self._wanted.chunk_bytes
        return len(payload) == (last if self.next == self._wanted.chunks - 1 else self._wanted.chunk_bytes)

    def add(self, payload: bytes) -> None:
        """Write the next piece.

        Raises:
            OSError: it cannot be written; it is asked for again.
        """
        assert self._descriptor is not None
        place = self.next * self._wanted.chunk_bytes
        rest = memoryview(payload)
        while rest:
            written = os.pwrite(self._descriptor, rest, place)
            place, rest = place + written, rest[written:]
        self.next += 1
        if self.is_whole:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Leave it as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
