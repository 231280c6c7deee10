"""Readings far outside of what the model has seen are counted and told, channel by channel."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from edge_agent.bundle import Channel
from edge_agent.messages.reading import Readings
from edge_agent.stream.ranges import Ranges, far_limits

NAN = float("nan")
DAY_S = 86_400.0
CHANNELS = (
    Channel(name="speed", min=2900.0, max=3000.0),
    Channel(name="flow", min=0.0, max=0.05),
    Channel(name="free"),
)


def feed(ranges: Ranges, *rows: tuple[float, float, float], times: int = 1) -> None:
    values = np.array(rows * times, dtype=np.float32)
    ranges.add(Readings([f"a{place % 3}" for place in range(len(values))], [0.0] * len(values), values))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture
def ranges(caplog: pytest.LogCaptureFixture) -> Ranges:
    caplog.set_level(logging.WARNING)
    return Ranges("pump", CHANNELS)


def test_far_is_a_whole_span_beyond() -> None:
    """A channel that never moved has a hundredth of its value as its span; one without a range is never outside."""
    still = (
        Channel(name="set", min=4.7, max=4.7),
        Channel(name="off", min=0.0, max=0.0),
        Channel(name="near", min=1e6, max=1e6 + 0.5),
    )
    low, high = far_limits((*CHANNELS, *still))
    assert low.tolist() == pytest.approx([2800, -0.05, -np.inf, 4.653, -0.01, 990_000], rel=1e-5)
    assert high.tolist() == pytest.approx([3100, 0.1, np.inf, 4.747, 0.01, 1_010_000], rel=1e-5)


def test_a_reading_within_a_span_of_the_range_is_nothing(ranges: Ranges, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a missing value, whatever the channel without a range holds."""
    feed(ranges, (2801, -0.04, 1e9), (3099, 0.09, -1e9), (NAN, NAN, 0), times=100)
    ranges.tell(0.0)
    assert ranges.describe() == {}
    assert lines(caplog) == []


def test_some_are_told_once_and_again_after_a_day_in_range(ranges: Ranges, caplog: pytest.LogCaptureFixture) -> None:
    """With the value, the range and the asset; no unit is suspected for a spike."""
    feed(ranges, (2950, 0.02, 0), (2950, 0.5, 0), (2950, 0.02, 0))
    ranges.tell(0.0)
    text = "some readings are far outside of what the model has seen stream=pump channel='flow' value=0.5"
    assert lines(caplog) == [f"{text} seen_min=0 seen_max=0.05 asset='a1'"]
    assert ranges.describe() == {"flow": {"count": 1, "last": 0.5, "min": 0.0, "max": 0.05, "most": False}}
    for hour in range(1, 30):
        feed(ranges, (2950, 0.5, 0), *[(2950, 0.02, 0)] * 60)
        ranges.tell(hour * 3600.0)
    assert lines(caplog) == []
    feed(ranges, (2950, 0.5, 0))
    ranges.tell(29 * 3600.0 + DAY_S)
    assert len(lines(caplog)) == 1


def test_most_of_a_while_are_likely_of_another_unit(ranges: Ranges, caplog: pytest.LogCaptureFixture) -> None:
    """Told in a line of its own, once; and health says so until a while is mostly in range."""
    feed(ranges, (2950, 20, 0), times=49)
    ranges.tell(0.0)
    assert [text.partition(" are ")[0] for text in lines(caplog)] == ["some readings"]
    feed(ranges, (2950, 20, 0), times=20)
    ranges.tell(1.0)
    (text,) = lines(caplog)
    assert text.startswith(
        "most readings, likely of another unit or scaling, are far outside of what the model has seen"
    )
    feed(ranges, (2950, 20, 0), times=500)
    ranges.tell(2.0)
    assert lines(caplog) == []
    assert ranges.describe()["flow"]["most"]
    assert ranges.describe()["flow"]["count"] == 569
    feed(ranges, (2950, 0.02, 0), times=100)
    assert not ranges.describe()["flow"]["most"]


def test_one_asset_of_many_is_no_unit(ranges: Ranges, caplog: pytest.LogCaptureFixture) -> None:
    """A real fault of one machine is outside, too."""
    feed(ranges, (2950, 20, 0), (2950, 0.02, 0), (2950, 0.02, 0), times=200)
    ranges.tell(0.0)
    assert [text.partition(" are ")[0] for text in lines(caplog)] == ["some readings"]
    assert not ranges.describe()["flow"]["most"]


def test_values_that_come_one_by_one_are_judged_by_channel(ranges: Ranges) -> None:
    """A channel's own values count, not the readings in which it is missing."""
    feed(ranges, (NAN, 20, NAN), (2950, NAN, NAN), (NAN, NAN, 0), times=49)
    assert not ranges.describe()["flow"]["most"]
    feed(ranges, (NAN, 20, NAN), (2950, NAN, NAN), (NAN, NAN, 0), times=20)
    assert ranges.describe()["flow"]["most"]
