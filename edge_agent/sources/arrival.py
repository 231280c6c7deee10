"""The time of a reading: as it was sent, or that of its arrival."""

from __future__ import annotations

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import LATEST_TIME_S, is_epoch_time, read_iso_time, seconds_of
from edge_agent.sources.formats import FormatError, FromNow

__all__ = ["APART_S", "time_of"]

APART_S = 1e-6
"""Time between readings that get their times at arrival."""


def time_of(value: float | str | None, now_s: float, latest_s: float) -> float:
    """The time of a reading, epoch seconds: as it was sent, relative, from a text, or that of its arrival."""
    if value is None:
        return now_s
    if isinstance(value, FromNow):
        return _read_time(now_s + value, latest_s)
    if isinstance(value, float):
        return _read_time(value, latest_s)
    try:
        seconds = read_iso_time(value)
    except ValueError:
        detail = f"time {value[:40]!r} is neither epoch seconds (a number, not a text) nor ISO 8601"
        raise FormatError(RejectReason.BAD_TIME, detail) from None
    return _read_time(seconds, latest_s)


def _read_time(value: float, latest_s: float) -> float:
    """A time in epoch seconds, of one that counts them or finer; raises FormatError if it is none, or too late."""
    seconds = value if value <= LATEST_TIME_S else seconds_of(value)
    if 0 <= seconds <= latest_s:
        return seconds
    if is_epoch_time(seconds):
        detail = f"time {value:.0f} is {seconds - latest_s:.0f} s later than this device's clock and ahead_s allow"
        raise FormatError(RejectReason.AHEAD, detail)
    raise FormatError(RejectReason.BAD_TIME, f"time {value:g} is no time since 1970, in seconds or finer")
