"""What counts as a number and as a time, wherever a text says it: a cell of a file, a line, a payload."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOAT32_MAX", "LATEST_TIME_S", "is_epoch_time", "read_iso_time", "read_number", "read_numbers"]

FLOAT32_MAX = 3.4028235677973362e38
"""Models compute with float32, in which a larger value is infinite. The largest float32 itself is a little smaller, but
most languages write it as 3.4028235e38."""
LATEST_TIME_S = 253402300799.0
"""The end of year 9999, the last moment that `datetime` can name; milliseconds are beyond it."""


def read_number(text: str | bytes) -> float:
    """A number that is written out; NaN and infinity are numbers here.

    Raises:
        ValueError: it is none. 1_000 is a number for Python only.
    """
    number = float(text)
    if (b"_" if isinstance(text, bytes) else "_") in text:  # type: ignore[operator]
        raise ValueError("1_000 is a number for Python only")
    return number


def read_numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """A column of cells, NaN where one is empty: shape (len(cells),).

    Raises:
        ValueError: some cell is no number.
    """
    values = np.array([float(cell) if cell.strip() else np.nan for cell in cells], dtype=np.float64)
    if "_" in "".join(cells):  # as in `read_number`, in a third of the time
        raise ValueError("1_000 is a number for Python only")
    return values


def read_iso_time(text: str) -> float:
    """ISO 8601 as epoch seconds. Without a zone it is UTC: a device's own zone is nothing that a sensor can know.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_epoch_time(seconds: float) -> bool:
    """True if a number can be epoch seconds, from 1970 to 9999. Milliseconds of today cannot, nor can NaN."""
    return 0 <= seconds <= LATEST_TIME_S
