"""Rows of one asset in data files: files that are its own, and its rows of files that it shares with others.

What a file holds of many assets is written once more, with the rows of each asset beside each other (`split_file`), so
that each is read once and no task reads what it does not need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files import Columns, DataFiles, SensorData, first_time, follow, open_data
from edge_agent.errors import DataError
from edge_agent.files.plain import replacing
from edge_agent.messages.reading import DEFAULT_ASSET

__all__ = ["Part", "Split", "rows_of", "split_file"]

_CHUNK_BYTES = 32 << 20
"""So much of a file is put in the order of its assets at once."""
_BLOCK_ROWS = 1 << 15


class Part(msgspec.Struct, frozen=True):
    """What one file holds of one asset."""

    path: str
    """The data file."""
    first_time: float | None = None
    """Of its first row of this asset, epoch seconds; None where nobody has looked."""
    split: str | None = None
    """The file that `split_file` has made of it; None where all of its rows are this asset's."""
    runs: tuple[tuple[int, int], ...] = ()
    """Where in that: the first row, and how many."""


class Split(msgspec.Struct, frozen=True):
    """What was found in a file of which nobody knew the assets."""

    path: str
    parts: dict[str, Part]
    """By asset, in the order in which they came."""


def split_file(path: str, columns: Columns, wanted: frozenset[str] | None, target: str) -> Split:
    """Find the assets of a file, and put the rows of each beside each other.

    Args:
        path: the data file.
        columns: what its columns are; its channels are named.
        wanted: the assets whose rows are needed; None for all.
        target: the file to write; none is written where the file has no column of assets.

    Raises:
        DataError: the file cannot be read, or the target cannot be written.
        MissingExtraError: a Parquet file needs a package that is not installed.
    """
    found = _Found(path, target, wanted)
    with open_data(DataFiles((Path(path),), columns)) as data:
        blocks = data.blocks()
        first = next(blocks)
        if first.assets is None:
            return Split(path, {DEFAULT_ASSET: Part(path)})
        try:
            with replacing(Path(target), durable=False) as file:
                held = [first]
                for block in blocks:
                    if sum(each.values.nbytes for each in held) >= _CHUNK_BYTES:
                        found.write(file, held, data.channels)
                        held = []
                    held.append(block)
                found.write(file, held, data.channels)
        except OSError as exc:
            raise DataError(f"{target}: cannot be written ({exc.strerror})") from exc
    return Split(path, found.parts())


class _Found:
    """The assets of one file, as they are found."""

    def __init__(self, path: str, target: str, wanted: frozenset[str] | None) -> None:
        self._path, self._target, self._wanted = path, target, wanted
        self._rows = 0
        self._runs: dict[str, list[tuple[int, int]]] = {}
        self._first: dict[str, float | None] = {}

    def write(self, file: BinaryIO, blocks: Sequence[SensorData], channels: tuple[str, ...]) -> None:
        """Write the rows of some blocks, those of each asset beside each other and in their order."""
        names: dict[str, int] = {}
        numbers = np.array([names.setdefault(name, len(names)) for block in blocks for name in block.assets or ()])
        table = np.concatenate([_as_table(block.select(channels)) for block in blocks])
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(names))).tolist()
        for name, begin, end in zip(names, [0, *ends], ends, strict=False):
            rows = table[order[begin:end]]
            self._first.setdefault(name, None if blocks[0].times is None else float(rows[0, 0]))
            runs = self._runs.setdefault(name, [])
            if self._wanted is None or name in self._wanted:
                file.write(rows.tobytes())
                runs.append((self._rows, len(rows)))
                self._rows += len(rows)

    def parts(self) -> dict[str, Part]:
        return {
            name: Part(self._path, self._first[name], self._target, tuple(runs)) for name, runs in self._runs.items()
        }


def _as_table(block: SensorData) -> NDArray[np.float64]:
    """Times, where there are any, and values: shape (rows, columns)."""
    return block.values if block.times is None else np.column_stack([block.times, block.values])


def rows_of(parts: Sequence[Part], columns: Columns) -> Iterator[SensorData]:
    """The rows of one asset, file after file in the order of their first rows, as `edge-agent score` reads its files.

    Args:
        parts: of the asset; without times, they stay in their order.
        columns: what the columns of the files are; the channels are named.

    Raises:
        DataError: a file cannot be read, has no rows, or has no times where others have.
        MissingExtraError: a Parquet file needs a package that is not installed.
    """
    own = replace(columns, asset="")
    if len(parts) > 1:
        times = [first_time(Path(part.path), own) if part.split is None else part.first_time for part in parts]
        known = [time for time in times if time is not None]
        if len(known) == len(parts):
            parts = [part for _, part in sorted(zip(times, parts, strict=True), key=lambda pair: pair[0] or 0.0)]
        elif known:
            without = parts[times.index(None)].path
            raise DataError(f"{without}: has no column 'time', which other files of this asset have")
    return follow(_plain(part.path, own) if part.split is None else _split(part, own.channels) for part in parts)


def _plain(path: str, columns: Columns) -> Iterator[SensorData]:
    with open_data(DataFiles((Path(path),), columns)) as data:
        yield from data.blocks()


def _split(part: Part, channels: tuple[str, ...]) -> Iterator[SensorData]:
    width = len(channels) + (part.first_time is not None)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(str(part.split)).open("rb"))
            for table in _tables(file, part.runs, width):
                times, values = (None, table) if part.first_time is None else (table[:, 0], table[:, 1:])
                yield SensorData(Path(part.path), channels, values, times, None, None)
        except OSError as exc:
            raise DataError(f"{part.split}: cannot be read ({exc.strerror})") from exc


def _tables(file: BinaryIO, runs: Sequence[tuple[int, int]], width: int) -> Iterator[NDArray[np.float64]]:
    """The rows of runs, in tables that are small enough and not smaller than they need to be."""
    row_bytes = width * np.dtype(np.float64).itemsize
    held: list[bytes] = []
    rows = 0
    for begin, count in runs:
        file.seek(begin * row_bytes, os.SEEK_SET)
        left = count
        while left:
            taken = min(left, _BLOCK_ROWS - rows)
            piece = file.read(taken * row_bytes)
            if len(piece) != taken * row_bytes:
                raise DataError(f"{file.name}: is shorter than it was written")
            held.append(piece)
            left, rows = left - taken, rows + taken
            if rows == _BLOCK_ROWS:
                yield np.frombuffer(b"".join(held)).reshape(-1, width)
                held, rows = [], 0
    if held:
        yield np.frombuffer(b"".join(held)).reshape(-1, width)
