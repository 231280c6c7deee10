"""What a picture of the fleet needs: at an interval, what the assets scored that are nearest to their limits.

The cost is bounded whatever comes in: scores are counted in columns (`stream.tally`), and a report is made only of so
many assets. These go out a few in each turn of the loop, so that an alert waits for a few of them at most.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.agent.stream import Stream
from edge_agent.messages.event import ChannelShare
from edge_agent.messages.scores import ScoreReport
from edge_agent.messages.text import iso_time
from edge_agent.stream.shares import shares_of
from edge_agent.stream.tally import Tallied, Tally

__all__ = ["Picture"]

_MOST_CHANNELS = 5
"""Channels of a report, those with the largest shares."""
_AT_ONCE = 20
"""Reports in one turn of the loop: a millisecond, about."""
_LEAST_BAND = 1e-30
_LEARNING = -1e300
"""The nearness of an asset that has no limit yet; they come last."""


class _Row(NamedTuple):
    """What one asset scored, and which of all is nearer to its limit: 0 is the nearest."""

    rank: int
    stream: Stream
    asset: str
    time_s: float
    since_s: float
    windows: int
    last: float
    highest: float
    channels: list[tuple[int, float, float]]
    """(number, share, value) of those that had most to do with it; NaN where a value was missing."""


class Picture:
    """The reports of one agent.

    Args:
        streams: all; each begins to count.
        agent: its id.
        interval_s: time between two reports of an asset, seconds.
        most_a_second: assets that are reported each second, at most.
        tell: takes each report, with its place in the order of nearness, from 0 on.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        agent: str,
        interval_s: float,
        most_a_second: int,
        tell: Callable[[ScoreReport, int], None],
    ) -> None:
        self._agent = agent
        self._interval_s = interval_s
        self._most = max(1, int(most_a_second * interval_s))
        self._tell = tell
        self._rows: deque[_Row] = deque()
        self._next_mono_s: float | None = None
        self.left_out = 0
        """Assets that scored in an interval and were not reported, since the start."""
        self._tallies = [(stream, Tally(len(stream.loaded.bundle.manifest.channels))) for stream in streams]
        for stream, tally in self._tallies:
            stream.pipeline.watchers.append(tally)

    @property
    def due_mono_s(self) -> float:
        """When `tick` has something to do."""
        return 0.0 if self._rows else self._next_mono_s or 0.0

    def tick(self, now_mono_s: float) -> None:
        """Make the reports that are due; to be called in each turn of the loop."""
        if self._next_mono_s is None:
            self._next_mono_s = now_mono_s + self._interval_s
        if now_mono_s >= self._next_mono_s:
            late_s = now_mono_s - self._next_mono_s
            # The beat is kept, and begins anew where an interval or more was missed.
            self._next_mono_s += self._interval_s if late_s < self._interval_s else late_s + self._interval_s
            self.left_out += len(self._rows)
            self._choose()
        for _ in range(min(_AT_ONCE, len(self._rows))):
            row = self._rows.popleft()
            self._tell(self._report(row), row.rank)

    def _choose(self) -> None:
        found = [(stream, tally.take()) for stream, tally in self._tallies]
        nearness = np.concatenate([_nearness(stream, tallied) for stream, tallied in found])
        chosen = np.argsort(-nearness, kind="stable")[: self._most]
        self.left_out += len(nearness) - len(chosen) + sum(tallied.left_out for _, tallied in found)
        ends = np.cumsum([len(tallied) for _, tallied in found])
        numbers = np.searchsorted(ends, chosen, side="right")
        rows: list[_Row] = []
        for number, (stream, tallied) in enumerate(found):
            ranks = np.flatnonzero(numbers == number)
            rows += _rows(stream, tallied, ranks.tolist(), chosen[ranks] - int(ends[number]) + len(tallied))
        self._rows = deque(sorted(row for row in rows if row.windows))

    def _report(self, row: _Row) -> ScoreReport:
        stream, asset = row.stream, row.asset
        limits = stream.pipeline.standings.limits(asset)
        names = stream.loaded.bundle.manifest.channels
        return ScoreReport(
            agent=self._agent,
            stream=stream.name,
            asset=asset,
            time=iso_time(row.time_s),
            since=iso_time(row.since_s),
            windows=row.windows,
            score=row.last,
            highest=row.highest,
            threshold=None if limits is None else limits.alarm,
            clear=None if limits is None else limits.clear,
            state=stream.pipeline.standings.state(asset),
            muted=stream.suppression.is_muted(asset) or msgspec.UNSET,
            channels=[
                ChannelShare(names[number].name, share, None if math.isnan(value) else value)
                for number, share, value in row.channels
            ],
        )


def _nearness(stream: Stream, tallied: Tallied) -> NDArray[np.float64]:
    """How far the highest score of each asset is above its alarm limit, negative below.

    In units of the distance from that limit down to the clear limit, so that assets of streams and limits that differ
    can be held against each other.
    """
    standings, highest = stream.pipeline.standings, tallied.highest[: len(tallied)].astype(np.float64)
    if standings.has_own_limits:
        own = [standings.limits(asset) for asset in tallied.numbers]
        pairs = [(math.nan, math.nan) if limits is None else (limits.alarm, limits.clear) for limits in own]
        alarm, clear = np.array(pairs, np.float64).reshape(-1, 2).T
    else:
        alarm, clear = np.array([[standings.threshold.alarm], [standings.threshold.clear]])
    nearness = (highest - alarm) / np.maximum(alarm - clear, _LEAST_BAND)
    return np.where(np.isnan(nearness), _LEARNING, nearness)


def _rows(stream: Stream, tallied: Tallied, ranks: list[int], places: NDArray[np.intp]) -> Iterator[_Row]:
    """The rows of some places, with their ranks; all at once, for numpy takes as long for one as for a hundred."""
    names = [*tallied.numbers]
    order, share, tells = shares_of(tallied.parts[places], _MOST_CHANNELS)
    values = np.take_along_axis(tallied.values[places], order, axis=1)
    channels = zip(order.tolist(), share.round(4).tolist(), values.tolist(), strict=True)
    yield from map(
        _Row,
        ranks,
        itertools.repeat(stream),
        [names[place] for place in places.tolist()],
        tallied.time_s[places].tolist(),
        tallied.since_s[places].tolist(),
        tallied.windows[places].tolist(),
        tallied.last[places].tolist(),
        tallied.highest[places].tolist(),
        [[*zip(*row, strict=True)] if says else [] for row, says in zip(channels, tells.tolist(), strict=True)],
    )
