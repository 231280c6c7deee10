"""Data files of any kind, one or several, as one stream of blocks or as a whole."""

from __future__ import annotations

import glob
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files.arrays import open_npz
from edge_agent.data_files.columns import Columns, Plan
from edge_agent.data_files.parquet import open_parquet
from edge_agent.data_files.sensor_data import SensorData
from edge_agent.data_files.text import open_csv
from edge_agent.errors import DataError, UsageError

__all__ = ["MOST_STEPS", "DataFiles", "DataStream", "first_time", "follow", "in_order", "open_data", "read_sensor_data"]

_MAGIC = re.compile(r"[*?\[]")
_PARQUET = {".parquet", ".pq"}
_STEPS_LOOKED_AT = 1000
MOST_STEPS = 10
"""So many usual steps behind the last row of a file, the next file still goes on from it."""


class _Table(Protocol):
    """One open data file."""

    @property
    def plan(self) -> Plan: ...

    def blocks(self) -> Iterator[SensorData]:
        """The rows in the file's order; to be called once."""

    def share_read(self) -> float | None:
        """How much of the file was read, from 0 to 1; None if nobody knows."""

    def first_time(self) -> float | None:
        """The time of the first row, epoch seconds; None without a column of times or a row. In place of `blocks`."""


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Which data files to read, and how."""

    paths: tuple[Path, ...]
    """At least one, in the order in which they are read."""
    columns: Columns = field(default_factory=Columns)
    ignored: list[str] = field(default_factory=list, compare=False)
    """Columns that hold text and are no channels; known when the files were opened."""

    @classmethod
    def named(cls, names: Sequence[str | Path], columns: Columns | None = None) -> DataFiles:
        """The files of these names and patterns, such as `a/*.csv`; what a pattern finds is sorted, 2 before 10.

        Raises:
            DataError: a pattern finds nothing.
            UsageError: there is no name, or a file is named twice.
        """
        paths: list[Path] = []
        for name in names:
            paths += _found_by(str(name))
        if not paths:
            raise UsageError("name a data file")
        twice = [path for place, path in enumerate(paths) if path in paths[:place]]
        if twice:
            raise UsageError(f"{twice[0]}: is named twice")
        return cls(tuple(paths), columns or Columns())

    def __str__(self) -> str:
        more = len(self.paths) - 1
        return f"{self.paths[0]}{f' and {more} more' if more else ''}"


class DataStream:
    """Open data files.

    Args:
        files: which they are.
        table: the first of them.
        ignored: columns that hold text and are no channels.
    """

    def __init__(self, files: DataFiles, table: _Table, ignored: tuple[str, ...]) -> None:
        self._files = files
        self._table = table
        self._number = 0
        self._is_read = False
        self.channels = table.plan.channels
        self.ignored = ignored

    def where(self) -> str:
        """The file that is being read, and how much of it was, for a person."""
        paths = self._files.paths
        share = 1.0 if self._is_read else self._table.share_read()
        which = f" ({self._number + 1} of {len(paths)})" if len(paths) > 1 else ""
        return f"{paths[self._number].name}{which}{'' if share is None else f' {share:.0%}'}"

    def blocks(self) -> Iterator[SensorData]:
        """The rows of all files in their order, in blocks that need not be in memory together; to be called once.

        Raises:
            DataError: a row or cell is not what it should be; the text names the line.
        """
        return follow(self._counted(number, path) for number, path in enumerate(self._files.paths))

    def _counted(self, number: int, path: Path) -> Iterator[SensorData]:
        self._number, is_empty = number, True
        for block in self._blocks_of(path):
            is_empty = False
            yield replace(block, ignored=self.ignored)
        if is_empty:
            raise DataError(f"{path}: has no rows")

    def _blocks_of(self, path: Path) -> Iterator[SensorData]:
        first = path == self._files.paths[0]
        columns = replace(self._files.columns, channels=self.channels)  # in one order, whatever that of a file is
        with _told(path), nullcontext(self._table) if first else _open(path, columns) as self._table:
            self._is_read = False
            yield from filter(len, self._table.blocks())
            # Behind this it is closed, while its last rows are still scored.
            self._is_read = True


@contextmanager
def open_data(files: DataFiles) -> Iterator[DataStream]:
    """Look at the columns of data files: all have the same, and that is found out before any is read.

    Raises:
        DataError: a file is missing or is none, its columns are not what they should be, or not those of the first.
        MissingExtraError: a Parquet file needs a package that is not installed.
    """
    first, *others = files.paths
    with ExitStack() as stack:
        with _told(first):
            # Kept open, because a pipe cannot be read again.
            table = stack.enter_context(_open(first, files.columns))
        ignored = dict.fromkeys(table.plan.ignored)
        for path in others:
            with _told(path), _open(path, files.columns) as other:
                _check_same(path, other.plan, first, table.plan)
                ignored |= dict.fromkeys(other.plan.ignored)
        files.ignored[:] = ignored
        yield DataStream(files, table, tuple(ignored))


def follow(parts: Iterable[Iterator[SensorData]]) -> Iterator[SensorData]:
    """The blocks of files that follow each other, with the numbers of their rows, and a start where a file does not go
    on from the rows before it.

    Args:
        parts: the blocks of each file, with the same channels; one may have none.
    """
    tail: NDArray[np.float64] | None = None
    row = 0
    for part in parts:
        begun = row
        for block in part:
            is_start = 0 < row == begun and not _goes_on(tail, block.times)
            yield replace(block, starts=(0,) if is_start else (), first_row=row)
            row += len(block)
            tail = None if block.times is None else block.times[-_STEPS_LOOKED_AT:]


def first_time(path: Path, columns: Columns) -> float | None:
    """The time of a data file's first row, epoch seconds; None if it has no times, or no rows.

    Raises:
        DataError: it is missing or is none, or its columns are not what they should be.
        MissingExtraError: a Parquet file needs a package that is not installed.
    """
    with _told(path), _open(path, columns) as table:
        return table.first_time()


def read_sensor_data(source: Path | DataFiles, channels: tuple[str, ...] = ()) -> SensorData:
    """Read data files as a whole.

    Args:
        source: a `.csv`, `.csv.gz`, `.npz` or `.parquet`, or several.
        channels: of a path: the columns to take, or for an `.npz` names for all. Empty: what the file has.

    Raises:
        DataError: it is missing, empty, or a cell is not a number; the text names line and column.
        MissingExtraError: a Parquet file needs a package that is not installed.
    """
    files = source if isinstance(source, DataFiles) else DataFiles((source,), Columns(channels=channels))
    try:
        with open_data(files) as stream:
            return _joined(list(stream.blocks()))
    except MemoryError as exc:
        raise DataError(f"{files}: needs more memory than there is here; split it") from exc


def _joined(blocks: list[SensorData]) -> SensorData:
    """Blocks that follow each other, as one."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    return replace(
        first,
        values=np.concatenate([block.values for block in blocks]),
        times=None if first.times is None else np.concatenate([b.times for b in blocks if b.times is not None]),
        assets=None if first.assets is None else tuple(chain.from_iterable(block.assets or () for block in blocks)),
        labels=None if first.labels is None else np.concatenate([b.labels for b in blocks if b.labels is not None]),
        starts=tuple(block.first_row for block in blocks if block.starts),
    )


def _open(path: Path, columns: Columns) -> AbstractContextManager[_Table]:
    if path.suffix == ".npz":
        return nullcontext(open_npz(path, columns))
    if path.suffix in _PARQUET:
        return open_parquet(path, columns)
    return open_csv(path, columns)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """A block that reads a file: what its system and its packers raise becomes a DataError."""
    try:
        yield
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no such data file") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); is it whole, and CSV in UTF-8, .npz or Parquet?") from exc
    except MemoryError as exc:
        raise DataError(f"{path}: needs more memory than there is here; split it") from exc


def _found_by(name: str) -> list[Path]:
    if not _MAGIC.search(name) or Path(name).exists():
        return [Path(name)]
    # Not by Path.glob, which takes a path apart: a pattern may be absolute, and have `..` in it.
    found = sorted(glob.glob(name, recursive=True), key=in_order)  # noqa: PTH207
    if not found:
        raise DataError(f"{name}: no file has such a name")
    return [Path(each) for each in found]


def in_order(name: str) -> list[tuple[str, int]]:
    """A key by which 2 comes before 10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d{0,18})", name)]


def _check_same(path: Path, plan: Plan, first: Path, wanted: Plan) -> None:
    """Refuse a file with other columns than the first: its rows would be joined with what they are not."""
    if plan == wanted:
        return
    for role in ("time", "asset", "label"):
        here, there = getattr(plan, role), getattr(wanted, role)
        if (here is None) != (there is None):
            has = path if there is None else first
            raise DataError(f"{path}: cannot follow {first}, of the two only {has} has a column {here or there!r}")
    odd = [name for name in plan.channels if name not in wanted.channels]
    odd += [name for name in wanted.channels if name not in plan.channels]
    if odd:
        has = path if odd[0] in plan.channels else first
        raise DataError(
            f"{path}: cannot follow {first}, of the two only {has} has a column {odd[0]!r}; name the channels that "
            "both have, or give the files one by one"
        )


def _goes_on(before: NDArray[np.float64] | None, times: NDArray[np.float64] | None) -> bool:
    """True if rows with these times follow those with the times before, as in one file."""
    if before is None or times is None:
        return False
    steps = np.diff(np.unique(before))
    return bool(steps.size) and 0 < times[0] - before[-1] <= MOST_STEPS * np.median(steps)
