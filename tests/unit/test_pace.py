"""How much a device is given at once, when it is slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, write_bundle

from edge_agent.bundle import open_bundle
from edge_agent.engine.choice.probe import CHANGING, TimingRequest, take_turn
from edge_agent.engine.golden import check_golden
from edge_agent.engine.pace import Pace, TimedEngine
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Scores


class Slow(FakeEngine):
    """Its own clock goes on by so many seconds for each window, and once by more for a batch size that is new."""

    def __init__(self, window_s: float, *, compile_s: float = 0.0, free_s: float = 0.0) -> None:
        super().__init__()
        self.now_s = 0.0
        self.sizes: list[int] = []
        self._window_s, self._compile_s, self._free_s = window_s, compile_s, free_s

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        if len(windows) not in self.sizes:
            self.now_s += self._compile_s
        self.sizes.append(len(windows))
        self.now_s += max(0.0, self._window_s * len(windows) - self._free_s)
        values: FloatArray = (windows**2).mean(axis=1).sum(axis=1).astype(np.float32)
        return Scores(values, None)


def checked(tmp_path: Path, slow: Slow) -> TimedEngine:
    """With the golden scores of 24 vectors."""
    engine = TimedEngine(slow, clock=lambda: slow.now_s)
    check_golden(engine, open_bundle(write_bundle(tmp_path / "square-1.0.0.edge")))
    return engine


@pytest.mark.parametrize(
    ("slow", "sizes"),
    [
        (Slow(0.0001), [3, 24, 512, 24]),
        (Slow(0.04), [3, 3, 24, 24, 75, 24]),
        # Under a quota of processor time, small batches are quick.
        (Slow(0.04, free_s=0.04), [3, 3, 24, 24, 78, 24]),
        # A provider that compiles for 20 s at each new size is not slow.
        (Slow(0.0001, compile_s=20.0), [3, 3, 24, 24, 512, 512, 24]),
        # 15 windows take 3 s, which is less than there are golden scores.
        (Slow(0.19), [3, 3, 15, 15, 9]),
        (Slow(5.0), [3, 3, *[1] * 24]),
    ],
)
def test_no_batch_is_proven_that_takes_much_longer_than_three_seconds(
    tmp_path: Path, slow: Slow, sizes: list[int]
) -> None:
    """But all golden scores are met, and a batch as large as can be."""
    checked(tmp_path, slow)
    assert slow.sizes == [1] * 8 + sizes


def test_what_would_take_too_long_is_estimated(tmp_path: Path) -> None:
    """From the largest batch that was run; nothing is run for it."""
    slow = Slow(0.04)
    engine = checked(tmp_path, slow)
    bundle = open_bundle(tmp_path / "square-1.0.0.edge")
    slow.sizes.clear()
    largest = take_turn(engine, bundle, TimingRequest(size=512, turn_s=0.01))
    assert (largest.is_estimated, round(largest.us), slow.sizes) == (True, 512 * 40_000, [])
    middle = take_turn(engine, bundle, TimingRequest(size=64, turn_s=0.01))
    assert (middle.is_estimated, round(middle.us), slow.sizes) == (False, 64 * 40_000, [64])
    changing = take_turn(checked(tmp_path, Slow(1.0)), bundle, TimingRequest(size=CHANGING, turn_s=0.01))
    assert (changing.is_estimated, round(changing.us)) == (True, 8_500_000)


def test_a_provider_that_compiles_at_each_size_is_timed(tmp_path: Path) -> None:
    """Its first run of a size says nothing of the next ones."""
    engine = checked(tmp_path, Slow(0.0001, compile_s=8.0))
    largest = take_turn(engine, open_bundle(tmp_path / "square-1.0.0.edge"), TimingRequest(size=512, turn_s=0.01))
    assert (largest.is_estimated, round(largest.us)) == (False, 51_200)


def test_a_batch_grows_while_it_takes_half_a_second_at_most() -> None:
    """It doubles up to the most, and shrinks at once to what fits into a second."""
    pace = Pace(100)
    assert pace.limit == 4
    pace.took(3, 0.0001)
    assert pace.limit == 4
    for seconds, limit in (
        (0.1, 8),
        (0.1, 16),
        (0.1, 32),
        (0.2, 64),
        (0.6, 64),
        (0.4, 100),
        (0.1, 100),
        (4.0, 25),
        (1000.0, 1),
        (0.1, 2),
    ):
        pace.took(pace.limit, seconds)
        assert pace.limit == limit
