"""Rows of data files, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edge_agent.messages.reading import DEFAULT_ASSET, Readings

__all__ = ["SensorData", "in_batches", "names_of"]

_SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class SensorData:
    """Rows of data files, in the files' order: all of them, or some that follow each other."""

    path: Path
    """Of the first file, for the texts of errors."""
    channels: tuple[str, ...]
    values: NDArray[np.float64]
    """Shape (rows, channels), in the channels' units; NaN where a cell is empty."""
    times: NDArray[np.float64] | None
    """Shape (rows,), epoch seconds."""
    assets: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    """Shape (rows,), 1 for an anomaly."""
    starts: tuple[int, ...] = ()
    """Rows, ascending, at which every window begins anew: there, a file begins that does not go on from the last."""
    first_row: int = 0
    """Number of rows before these."""
    ignored: tuple[str, ...] = ()
    """Columns that hold text and are no channels."""

    def __len__(self) -> int:
        return len(self.values)

    def batches(self, rows: int) -> Iterator[Readings]:
        """The rows as readings of at most this many, in order; without a `time` column a second apart from 0.

        A row without any value is no reading, as it is none in a message. No batch runs from one side of a start to the
        other.
        """
        return in_batches([self], rows)

    def cut(self) -> Iterator[SensorData]:
        """The same rows in parts, of which only the first row may be a start."""
        if all(start == 0 for start in self.starts):
            yield self
            return
        cuts = sorted({0, *self.starts, len(self)})
        for begin, end in pairwise(cuts):
            yield replace(self._part(begin, end), starts=(0,) if begin in self.starts else ())

    def take(self, rows: int) -> tuple[SensorData, SensorData]:
        """The first rows, and the others; no start may be behind the first row."""
        return self._part(0, rows), replace(self._part(rows, len(self)), starts=())

    def _part(self, begin: int, end: int) -> SensorData:
        return replace(
            self,
            values=self.values[begin:end],
            times=None if self.times is None else self.times[begin:end],
            assets=None if self.assets is None else self.assets[begin:end],
            labels=None if self.labels is None else self.labels[begin:end],
            first_row=self.first_row + begin,
        )

    def select(self, channels: tuple[str, ...]) -> SensorData:
        """The same rows with these channels, in this order.

        Raises:
            DataError: the file has no such column.
        """
        places = {name: place for place, name in enumerate(self.channels)}
        for name in channels:
            if name not in places:
                raise DataError(f"{self.path}: has no column {name!r}; its channels are: {names_of(self.channels)}")
        if channels == self.channels:
            return self
        columns = [places[name] for name in channels]
        return replace(self, channels=channels, values=self.values[:, columns])

    def where(self, keep: NDArray[np.bool_]) -> SensorData:
        """The rows where `keep` (shape (rows,)) is true."""
        before: NDArray[np.int64] = np.cumsum(keep) - keep
        return replace(
            self,
            values=self.values[keep],
            times=None if self.times is None else self.times[keep],
            assets=None if self.assets is None else tuple(compress(self.assets, keep)),
            labels=None if self.labels is None else self.labels[keep],
            starts=tuple(sorted({int(before[row]) for row in self.starts})),
        )


def in_batches(blocks: Iterable[SensorData], rows: int) -> Iterator[Readings]:
    """The rows of blocks that follow each other, as `SensorData.batches`: how they are cut depends on the rows only."""
    held: list[SensorData] = []
    count = 0
    for part in (part for block in blocks for part in block.cut()):
        if part.starts and held:
            yield _readings_of(held)
            held, count = [], 0
        rest = part
        while count + len(rest) >= rows:
            ready, rest = rest.take(rows - count)
            yield _readings_of([*held, ready])
            held, count = [], 0
        if len(rest):
            held.append(rest)
            count += len(rest)
    if held:
        yield _readings_of(held)


def _readings_of(parts: list[SensorData]) -> Readings:
    """The rows of parts that follow each other; a row without any value is none."""
    values = np.empty((sum(map(len, parts)), len(parts[0].channels)), dtype=np.float32)
    assets: list[str] = []
    times: list[float] = []
    for part in parts:
        with np.errstate(over="ignore"):
            values[len(times) : len(times) + len(part)] = part.values
        assets += [DEFAULT_ASSET] * len(part) if part.assets is None else part.assets
        times += range(part.first_row, part.first_row + len(part)) if part.times is None else part.times.tolist()
    anew = bool(parts[0].starts)
    readings = Readings(assets, times, values, anew=anew)
    if not readings.is_whole():
        kept = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
        if len(kept) < len(values):
            return Readings([assets[row] for row in kept], [times[row] for row in kept], values[kept], anew=anew)
    return readings


def names_of(names: tuple[str, ...] | list[str]) -> str:
    """Names of columns for a person, the first twenty."""
    return ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
