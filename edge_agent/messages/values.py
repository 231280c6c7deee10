"""Reads numbers and times in texts, by the same rules for a cell of a file, a line and a payload."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLOCK_STEP_S",
    "FLOAT32_MAX",
    "LATEST_TIME_S",
    "epoch_seconds",
    "float_of",
    "is_epoch_time",
    "read_iso_time",
    "read_length",
    "read_number",
    "read_numbers",
    "seconds_of",
]

FLOAT32_MAX = 3.4028235677973362e38
"""Largest value of a reading: models compute with float32, in which a larger value is infinite. The largest float32 is
a little smaller, but most languages write it as 3.4028235e38."""
LATEST_TIME_S = 253402300799.0
"""The last second of the year 9999, epoch seconds: the latest time of `datetime`. Milliseconds of today are larger."""

CLOCK_STEP_S = 366 * 86_400.0
"""From one reading of an asset to its next, no more time passes than this, seconds: a larger step shows that the
sender's clock was set, as after a boot in 1970 or in 2000."""


_LENGTHS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def read_number(text: str | bytes) -> float:
    """Read a number from a text; NaN and infinity are numbers here.

    Raises:
        ValueError: the text is not a number. That includes 1_000, which is a number for Python only.
    """
    number = float(text)
    if (b"_" in text) if isinstance(text, bytes) else ("_" in text):
        raise ValueError("1_000 is a number for Python only")
    return number


def float_of(number: float) -> float:
    """A number as a float; an integer for which that has no room is infinite, as 1e999 is.

    A document may have integers of any length, and `float` and `/` raise OverflowError for one of 309 digits.
    """
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def read_numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Read a column of cells.

    Returns:
        Shape (len(cells),), float64, NaN where a cell is empty.

    Raises:
        ValueError: a cell is neither empty nor a number.
    """
    values = np.array([float(cell) if cell.strip() else np.nan for cell in cells], dtype=np.float64)
    if "_" in "".join(cells):  # as in `read_number`, in a third of the time
        raise ValueError("1_000 is a number for Python only")
    return values


def read_length(text: str) -> float:
    """Read a length of time such as 30s, 45m (or 45min), 2h or 3d as seconds.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)", text.strip())
    if found is None:
        raise ValueError("expected a number with s, m, h or d")
    return float(found[1]) * _LENGTHS_S[found[2]]


def read_iso_time(text: str) -> float:
    """Read an ISO 8601 time as epoch seconds.

    A time without a zone is taken as UTC, because a sensor cannot know the device's own zone.

    Raises:
        ValueError: the text is not an ISO 8601 time.
    """
    moment = datetime.fromisoformat(text.strip())
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    # West of Greenwich the year 9999, by which some say "never", ends later: a larger number would be milliseconds.
    return min(seconds, LATEST_TIME_S)


def epoch_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times since 1970 as epoch seconds, whatever they count: the size of each says it.

    Seconds to the year 9999 are below 2.6e11. Milliseconds since 1978 are above that, and below 2.6e14; microseconds
    and nanoseconds follow, each a thousand times larger.

    Args:
        times: shape (rows,). What is larger than any of these, or no number, stays.
    """
    if not (times > LATEST_TIME_S).any():
        return times
    scales = np.array([1.0, 1e3, 1e6, 1e9, 1.0])
    seconds: NDArray[np.float64] = times / scales[np.searchsorted(LATEST_TIME_S * scales[:-1], times)]
    return seconds


def seconds_of(time: float) -> float:
    """A single time since 1970 as epoch seconds, as `epoch_seconds`.

    Args:
        time: an int is divided exactly, where a float has no room for the digits of nanoseconds.
    """
    if not math.isfinite(float_of(time)):
        return float_of(time)
    scale = 1
    while time / scale > LATEST_TIME_S and scale < 10**9:
        scale *= 1000
    return time / scale if time / scale <= LATEST_TIME_S else float(time)


def is_epoch_time(seconds: float) -> bool:
    """True if a number is in the epoch seconds of the years 1970 to 9999; false for present milliseconds and NaN."""
    return 0 <= seconds <= LATEST_TIME_S
