"""Until when somebody wants to hear nothing: what can be read is what was meant, and nothing is guessed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from edge_agent.cli.mute import until_of
from edge_agent.errors import UsageError

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
NOON_S = datetime.fromisoformat("2026-11-29T12:00:00+01:00").timestamp()


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", BERLIN)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("length", "until", "expected"),
    [
        ("45m", None, "2026-11-29T12:45:00+01:00"),
        ("1.5h", None, "2026-11-29T13:30:00+01:00"),
        ("31d", None, "2026-12-30T12:00:00+01:00"),
        (None, "22:00", "2026-11-29T22:00:00+01:00"),
        (None, "6:30", "2026-11-30T06:30:00+01:00"),
        (None, "12:00", "2026-11-30T12:00:00+01:00"),
        (None, "2026-12-24T06:00", "2026-12-24T06:00:00+01:00"),
        (None, "2026-12-24 06:00:30", "2026-12-24T06:00:30+01:00"),
        (None, "2026-12-24T06:00Z", "2026-12-24T07:00:00+01:00"),
    ],
)
def test_times_are_those_of_the_device(length: str | None, until: str | None, expected: str) -> None:
    """A time of day is the next one; a zone that is given counts."""
    assert until_of(length, until, NOON_S) == datetime.fromisoformat(expected).timestamp()


def test_a_time_of_day_is_right_in_the_night_when_the_clocks_change() -> None:
    """2027-03-28 has 23 hours in Berlin."""
    before_s = datetime.fromisoformat("2027-03-27T22:00:00+01:00").timestamp()
    expected = datetime.fromisoformat("2027-03-28T06:00:00+02:00").timestamp()
    assert until_of(None, "06:00", before_s) == expected


def test_an_end_is_a_time_that_has_come() -> None:
    """Whatever the clock of the agent says."""
    assert until_of(None, None, NOON_S) == 0.0


@pytest.mark.parametrize(
    ("length", "until", "error"),
    [
        ("2", None, "--for 2: expected a number with s, m, h or d, such as 45m, 2h or 3d"),
        ("-2h", None, "--for -2h: expected a number with"),
        ("0h", None, "--for 0h: has passed; to end a mute, give --end"),
        ("32d", None, "--for 32d: is more than 31 days away"),
        (None, "2026-11-29T11:59", "--until 2026-11-29T11:59: has passed"),
        (None, "2027-11-29T11:59", "--until 2027-11-29T11:59: is more than 31 days away"),
        (None, "25:00", "--until 25:00: expected a time such as 22:00 or 2026-12-24T06:00"),
        (None, "2026-12-24", "--until 2026-12-24: expected a time"),
        (None, "tomorrow", "--until tomorrow: expected a time"),
        (None, "9999999999", "--until 9999999999: expected a time"),
    ],
)
def test_what_is_no_such_time_is_refused(length: str | None, until: str | None, error: str) -> None:
    """A date alone too: its morning or its evening?"""
    with pytest.raises(UsageError, match="^" + error.replace("+", r"\+")):
        until_of(length, until, NOON_S)
