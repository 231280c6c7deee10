"""What was scored in an interval, asset by asset: how often, the last and the highest score, and what was behind that.

Nothing here is done for each reading in Python. Batches are copied into columns, and once these are full they are
counted at once: under light load a batch has few rows, and numpy takes as long for one as for a hundred.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Scores
from edge_agent.stream.outcome import WindowBatch

__all__ = ["Tallied", "Tally"]

_LEAST_ASSETS, _MOST_ASSETS = 500, 20_000
_BYTES, _CHANNEL_BYTES = 4_000_000, 8
"""Assets of one interval, at most, and bytes of their channels: a sender may make up a name for each reading."""
_ROWS, _VALUES = 512, 65_536
"""Most rows that are held, and most values of channels in them."""
_FIRST_ASSETS = 64


class Tallied:
    """The assets of one interval, as columns; a place in them is an asset's.

    Args:
        width: number of the channels.
    """

    def __init__(self, width: int) -> None:
        self.most = max(_LEAST_ASSETS, min(_MOST_ASSETS, _BYTES // (_CHANNEL_BYTES * width)))
        """Assets that there are places for."""
        self.numbers: defaultdict[str, int] = defaultdict(count().__next__)
        """The place of each asset."""
        self.left_out = 0
        """About how many assets there was no place for."""
        self.windows = np.zeros(0, np.int64)
        """How many were scored."""
        self.since_s = np.zeros(0)
        """Time of the first one's last reading, epoch seconds."""
        self.time_s = np.zeros(0)
        """The same of the last one."""
        self.last = np.zeros(0, np.float32)
        self.highest = np.zeros(0, np.float32)
        self.parts = np.zeros((0, width), np.float32)
        """Contributions to the highest score; 0 where the model gives none."""
        self.values = np.zeros((0, width), np.float32)
        """The last values of its window, in the units of the channels; NaN where one was missing."""

    def __len__(self) -> int:
        return min(len(self.numbers), len(self.windows))

    def places(self, assets: list[str]) -> NDArray[np.intp]:
        """The place of each row's asset; `most` or more where there is none."""
        places = np.fromiter(map(self.numbers.__getitem__, assets), np.intp, len(assets))
        over = len(self.numbers) - self.most
        if over > 0:
            for asset in [*islice(reversed(self.numbers), over)]:
                del self.numbers[asset]
            self.left_out += over
        if len(self.numbers) > len(self.windows):
            self._grow(max(_FIRST_ASSETS, 2 * len(self.numbers)))
        return places

    def _grow(self, size: int) -> None:
        more = size - len(self.windows)
        for name, empty in (("windows", 0), ("since_s", 0.0), ("time_s", 0.0), ("last", 0.0), ("highest", -np.inf)):
            column = getattr(self, name)
            setattr(self, name, np.append(column, np.full(more, empty, column.dtype)))
        for name, empty in (("parts", 0.0), ("values", np.nan)):
            column = getattr(self, name)
            setattr(self, name, np.append(column, np.full((more, column.shape[1]), empty, column.dtype), axis=0))


class Tally:
    """Of one stream.

    Args:
        width: number of the channels.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._room = max(1, min(_ROWS, _VALUES // width))
        self._filled = 0
        self._assets: list[str] = []
        self._times = np.zeros(self._room)
        self._scores = np.zeros(self._room, np.float32)
        self._values = np.zeros((self._room, width), np.float32)
        self._parts: FloatArray | None = None
        """Contributions of the rows; None of a model that gives none."""
        self._tallied = Tallied(width)

    def add(self, windows: WindowBatch, scores: Scores) -> None:
        """Count the scores of a batch; one that is no number counts for nothing."""
        if scores.contributions is not None and self._parts is None:
            self._parts = np.zeros_like(self._values)
        size = len(windows)
        done = 0
        while done < size:
            part = min(size - done, self._room - self._filled)
            here, there = slice(self._filled, self._filled + part), slice(done, done + part)
            self._assets += windows.assets[there]
            self._times[here] = windows.times[there]
            self._scores[here] = scores.score[there]
            self._values[here] = windows.values[there, -1]
            if self._parts is not None:
                self._parts[here] = 0.0 if scores.contributions is None else scores.contributions[there]
            self._filled += part
            done += part
            if self._filled == self._room:
                self._count()

    def take(self) -> Tallied:
        """What was counted since the last call."""
        self._count()
        taken, self._tallied = self._tallied, Tallied(self._width)
        return taken

    def _count(self) -> None:
        if not self._filled:
            return
        held, found = self._filled, self._tallied
        places = found.places(self._assets)
        rows = np.flatnonzero(np.isfinite(self._scores[:held]) & (places < found.most))
        places, times, scores = places[rows], self._times[rows], self._scores[rows]
        is_new = found.windows[places] == 0
        # Of a place that comes again, numpy leaves what is assigned last.
        found.since_s[places[is_new][::-1]] = times[is_new][::-1]
        np.add.at(found.windows, places, 1)
        found.time_s[places], found.last[places] = times, scores
        before = found.highest[places]
        np.maximum.at(found.highest, places, scores)
        best = np.flatnonzero((scores == found.highest[places]) & (scores > before))
        if self._parts is not None:
            # What they mean is worked out for the few that are told.
            found.parts[places[best]] = self._parts[rows[best]]
            found.values[places[best]] = self._values[rows[best]]
        self._filled = 0
        self._assets.clear()
