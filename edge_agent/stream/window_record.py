"""The journal's record of the last rows of one asset."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray

__all__ = ["WindowRecord", "pack_rows", "unpack_rows"]

# Number of rows that follow; readings since the last scored window; time of the newest reading, epoch seconds.
_HEADER = struct.Struct("<IId")
_HAS_LAST = 1 << 31  # flag in the number of rows: after the rows come each channel's last value and that value's time


class WindowRecord(NamedTuple):
    """What a record holds."""

    rows: FloatArray
    """Shape (filled, channels), oldest first."""
    since: int
    """Readings since the last scored window."""
    newest_s: float
    """Time of the newest reading, epoch seconds."""
    last: FloatArray
    """Shape (channels,): each channel's last value."""
    seen_s: NDArray[np.float64] | None
    """Shape (channels,): the times of these, epoch seconds; None where their age does not matter."""


def pack_rows(record: WindowRecord) -> bytes:
    """As bytes. Without times, last values are those of the last row, and written only where there is none."""
    rows, since, newest_s, last, seen_s = record
    if seen_s is not None:
        # The last values are needed too: values of an incomplete reading are in no row.
        header = _HEADER.pack(len(rows) | _HAS_LAST, since, newest_s)
        return b"".join((header, rows.tobytes(), last.tobytes(), seen_s.tobytes()))
    return _HEADER.pack(len(rows), since, newest_s) + bytes((rows if len(rows) else last).tobytes())


def unpack_rows(packed: bytes, *, channels: int, most: int) -> WindowRecord | None:
    """The result of `pack_rows` again; None for rows of another number of channels, or more than `most`.

    Raises:
        struct.error: `packed` is too short for its header.
    """
    filled, since, newest_s = _HEADER.unpack_from(packed)
    has_last, filled = filled & _HAS_LAST, filled & ~_HAS_LAST
    count = (filled + 1 if has_last else max(filled, 1)) * channels
    values = memoryview(packed)[_HEADER.size :]
    if len(values) != 4 * count + (8 * channels if has_last else 0) or filled > most:
        return None
    rows = np.frombuffer(values[: 4 * count], dtype=np.float32).reshape(-1, channels)
    seen_s = np.frombuffer(values[4 * count :], dtype=np.float64) if has_last else None
    return WindowRecord(rows[:filled], since, newest_s, rows[-1], seen_s)
