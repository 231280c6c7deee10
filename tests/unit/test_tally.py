"""Scores counted in columns are those that a loop over each of them would count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.scores import Scores
from edge_agent.stream.outcome import WindowBatch
from edge_agent.stream.tally import Tallied, Tally

Row = tuple[str, float, float, tuple[float, ...], tuple[float, ...]]
"""Asset, time, score, contributions, last values."""


def batch(rows: Sequence[Row]) -> tuple[WindowBatch, Scores]:
    values = np.array([[values] for *_, values in rows], np.float32)
    parts = np.array([parts for *_, parts, _ in rows], np.float32)
    windows = WindowBatch(values, [row[0] for row in rows], [row[1] for row in rows])
    return windows, Scores(np.array([row[2] for row in rows], np.float32), parts)


def told(found: Tallied) -> dict[str, tuple[object, ...]]:
    """By asset, all that is known of it."""
    return {
        asset: (
            found.windows[place].item(),
            found.since_s[place].item(),
            found.time_s[place].item(),
            found.last[place].item(),
            found.highest[place].item(),
            found.parts[place].tolist(),
            found.values[place].tolist(),
        )
        for asset, place in found.numbers.items()
        if found.windows[place]
    }


def counted(rows: Sequence[Row]) -> dict[str, tuple[object, ...]]:
    """The same by a loop."""
    seen: dict[str, list[Row]] = {}
    for row in rows:
        if math.isfinite(row[2]):
            seen.setdefault(row[0], []).append(row)
    expected: dict[str, tuple[object, ...]] = {}
    for asset, mine in seen.items():
        highest = max(row[2] for row in mine)
        # Of equal ones the first, or in one batch the last: they are told apart by nothing that matters, so no test
        # gives two equal scores with other channels.
        best = next(row for row in mine if row[2] == highest)
        expected[asset] = (len(mine), mine[0][1], mine[-1][1], mine[-1][2], highest, [*best[3]], [*best[4]])
    return expected


PARTS = st.sampled_from([(0.0, 0.0), (1.0, 3.0), (3.0, 1.0), (2.0, 2.0)])
SCORES = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan, math.inf, -math.inf])
ROWS = st.lists(st.tuples(st.sampled_from("abc"), SCORES), max_size=40)


@given(ROWS, st.integers(1, 7))
def test_columns_count_what_a_loop_counts(pairs: list[tuple[str, float]], size: int) -> None:
    """However the rows come in batches; a score that is no number counts for nothing."""
    parts = {0.0: (0.0, 0.0), 0.5: (1.0, 3.0), 1.0: (3.0, 1.0), 2.0: (2.0, 2.0)}
    rows: list[Row] = [
        (asset, 10.0 + number, score, parts.get(score, (1.0, 1.0)), (score if math.isfinite(score) else 0.0, 7.0))
        for number, (asset, score) in enumerate(pairs)
    ]
    tally = Tally(2)
    for start in range(0, len(rows), size):
        tally.add(*batch(rows[start : start + size]))
    assert told(tally.take()) == counted(rows)
    assert told(tally.take()) == {}


def test_a_batch_of_many_assets_is_counted_whole() -> None:
    """More rows than are held at once, of more assets than there were places for; and the next interval begins anew."""
    rows: list[Row] = [(f"a{number % 1500}", float(number), float(number), (1.0,), (0.0,)) for number in range(4000)]
    tally = Tally(1)
    tally.add(*batch(rows))
    assert told(tally.take()) == counted(rows)
    tally.add(*batch(rows[:3]))
    assert told(tally.take()) == counted(rows[:3])


def test_names_without_end_take_no_memory_without_end() -> None:
    """Those beyond the bound are counted, and the assets that were there before are still told."""
    tally = Tally(1)
    for start in range(0, 50_000, 500):
        tally.add(*batch([(f"a{start + number}", 1.0, 1.0, (1.0,), (0.0,)) for number in range(500)]))
        tally.add(*batch([("a0", 2.0, 3.0, (1.0,), (0.0,))]))
    found = tally.take()
    assert len(found.numbers) == len(found) == 20_000
    assert found.left_out == 30_000
    assert told(found)["a0"][:2] == (101, 1.0)


def test_a_model_without_contributions_leaves_none_of_an_earlier_one() -> None:
    """As of another provider's answer."""
    tally = Tally(2)
    tally.add(*batch([("a", 1.0, 1.0, (1.0, 3.0), (5.0, 6.0))]))
    assert tally.take().parts[0].tolist() == [1.0, 3.0]
    windows, scores = batch([("a", 1.0, 1.0, (1.0, 3.0), (5.0, 6.0))])
    tally.add(windows, Scores(scores.score, None))
    assert tally.take().parts[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("width", "most"), [(1, 20_000), (100, 5000), (2000, 500)])
def test_wide_models_have_fewer_assets_in_an_interval(width: int, most: int) -> None:
    """So that their channels take no more memory."""
    assert Tallied(width).most == most
