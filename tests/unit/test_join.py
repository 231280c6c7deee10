"""Values that come one channel at a time become readings."""

from __future__ import annotations

import numpy as np

from edge_agent.messages.reading import Readings
from edge_agent.stream.join import Join

NAN = float("nan")


def push(join: Join, *values: tuple[str, float, int, float]) -> list[tuple[str, float, list[float]]]:
    """Values as (asset, time, channel, value); gives the closed readings."""
    rows = np.full((len(values), 3), np.nan, np.float32)
    for row, (_, _, place, value) in zip(rows, values, strict=True):
        row[place] = value
    found = join.push(Readings([v[0] for v in values], [v[1] for v in values], rows))
    return list(zip(found.assets, found.times, found.values.tolist(), strict=True))


def test_a_reading_is_complete_with_its_last_channel() -> None:
    """In any order; its time is that of its first value."""
    assert push(Join(3, 1.0), ("a", 5.0, 2, 3), ("a", 5.1, 0, 1), ("a", 5.2, 1, 2)) == [("a", 5.0, [1, 2, 3])]


def test_a_channel_that_comes_again_begins_the_next_reading() -> None:
    """What was left out stays missing, for the window to hold."""
    (closed,) = push(Join(3, 10.0), ("a", 5.0, 0, 1), ("a", 6.0, 0, 2))
    np.testing.assert_array_equal(closed[2], [1, NAN, NAN])


def test_values_too_far_apart_are_not_one_reading() -> None:
    """By the tolerance."""
    closed = push(Join(3, 1.0), ("a", 5.0, 0, 1), ("a", 6.5, 1, 2))
    assert [item[1] for item in closed] == [5.0]


def test_assets_are_joined_on_their_own_and_survive_a_restart() -> None:
    """An open reading is in the journal."""
    join = Join(3, 1.0)
    assert push(join, ("a", 5.0, 0, 1), ("b", 5.0, 0, 9), ("a", 5.0, 1, 2)) == []
    restarted = Join(3, 1.0)
    for asset in ("a", "b", "c"):
        restarted.restore(asset, join.dump(asset))
    assert push(restarted, ("a", 5.0, 2, 3)) == [("a", 5.0, [1, 2, 3])]
