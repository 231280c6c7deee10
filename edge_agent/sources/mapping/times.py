"""Reads the times of other senders: numbers of any unit, texts in a zone or a form of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.values import LATEST_TIME_S, float_of, read_iso_time, read_number, seconds_of
from edge_agent.sources.formats import FormatError
from edge_agent.sources.mapping.settings import PayloadSettings, TimeUnit

__all__ = ["Time", "TimeReader", "make_time_reader", "plain_time", "read_text", "zone_of"]

Time = float | str | None
"""Epoch seconds or finer, an ISO 8601 text, or none: what `Decoder` knows to read."""
TimeReader = Callable[[Any, Any, float], Time]
"""Takes a time as it was sent, its nanoseconds and the time of arrival; raises FormatError."""

_PER_SECOND = {
    TimeUnit.SECONDS: 1,
    TimeUnit.MILLISECONDS: 10**3,
    TimeUnit.MICROSECONDS: 10**6,
    TimeUnit.NANOSECONDS: 10**9,
}


def zone_of(name: str) -> tzinfo:
    """A zone by its name.

    Raises:
        ValueError: this machine does not know it.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        advice = "a name such as Europe/Berlin is expected; a device without a list of zones needs Debian's tzdata"
        raise ValueError(f"this machine knows no zone {name!r}; {advice}") from None


def make_time_reader(settings: PayloadSettings) -> TimeReader | None:
    """Make the reader of a table's times; None where they need none, as numbers of a told size and ISO 8601 in UTC.

    Raises:
        ValueError: the zone is not known, or the format is of no whole time.
    """
    per_second = _PER_SECOND.get(settings.time_unit)
    zone = None if settings.time_zone is None else zone_of(settings.time_zone)
    form = settings.time_format
    if form is not None:
        _check_form(form)
    if per_second is None and zone is None and form is None and settings.time_nanos is None:
        return None

    def read(sent: Any, nanos: Any, now_s: float) -> Time:
        if form is not None and isinstance(sent, int | float) and not isinstance(sent, bool):
            sent = str(sent)  # 20251121044000 is written as a number, too
        if form is None and isinstance(sent, str) and (number := _number(sent)) is not None:
            sent = number
        if isinstance(sent, str):
            if form is None and zone is None:
                return sent
            return _with_nanos(_of_text(sent, form, zone or UTC, now_s), nanos)
        if sent is None or isinstance(sent, bool) or not isinstance(sent, int | float):
            return None if sent is None else plain_time(sent)
        return _with_nanos(_counted(sent, per_second) if per_second else seconds_of(sent), nanos)

    return read


def _check_form(form: str) -> None:
    """Raise ValueError for what strptime does not know, and for a format that says no day."""
    moment = datetime(2025, 11, 21, 16, 40, 50, tzinfo=UTC)
    try:
        is_day = datetime.strptime(moment.strftime(form), form).date() == moment.date()  # noqa: DTZ007 - of its day
    except ValueError as exc:
        raise ValueError(f"time_format = {form!r}: {exc}; expected strptime's signs, as %d.%m.%Y %H:%M:%S") from None
    if not is_day:
        raise ValueError(f"time_format = {form!r}: says no day, month and year, so it is no time")


def plain_time(sent: Any) -> Time:
    """A time that needs no reader; a number may stand in a text.

    Raises:
        FormatError: it is neither a number nor a text.
    """
    if isinstance(sent, str):
        number = _number(sent)
        return sent if number is None else seconds_of(number)
    if sent is None:
        return None
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        raise FormatError(RejectReason.BAD_TIME, f"time {sent!r:.40} is neither a number nor a text")
    return seconds_of(sent)


def read_text(time: Time) -> Time:
    """A time that can be compared with others; a text that is no ISO 8601 stays one, and is told later."""
    if not isinstance(time, str):
        return time
    try:
        return read_iso_time(time)
    except ValueError:
        return time


def _with_nanos(seconds: float, nanos: Any) -> float:
    if nanos is None:
        return seconds
    if isinstance(nanos, bool) or not isinstance(nanos, int | float):
        raise FormatError(RejectReason.BAD_TIME, f"nanoseconds {nanos!r:.40} are no number")
    return seconds + float_of(nanos) * 1e-9


def _counted(sent: float, per_second: int) -> float:
    # An integer is divided as it is: a float has no room for the digits of nanoseconds.
    return sent / per_second if math.isfinite(float_of(sent)) else float_of(sent)


def _number(text: str) -> float | None:
    try:
        return read_number(text)
    except ValueError:
        return None


def _of_text(text: str, form: str | None, zone: tzinfo, now_s: float) -> float:
    try:
        moment = datetime.fromisoformat(text.strip()) if form is None else datetime.strptime(text.strip(), form)  # noqa: DTZ007 - its zone follows
    except ValueError:
        wanted = "ISO 8601" if form is None else f"as time_format = {form!r}"
        raise FormatError(RejectReason.BAD_TIME, f"time {text[:40]!r} is not {wanted}") from None
    if moment.tzinfo is not None:
        return min(moment.timestamp(), LATEST_TIME_S)
    first, second = (moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    # The hour that comes twice in autumn: readings are sent as they are made, so that nearer to now is meant.
    return min(min(first, second, key=lambda seconds: abs(seconds - now_s)), LATEST_TIME_S)
