"""Sensor data files: CSV (`.csv`, `.csv.gz`) with a header, or `.npz`; docs/data.md describes the columns."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import CHANNEL_NAME, RESERVED_CHANNELS
from edge_agent.errors import DataError
from edge_agent.files.archives import ArchiveError, ArrayArchive, ArrayHeader
from edge_agent.files.csv_rows import Block, open_rows
from edge_agent.messages.reading import DEFAULT_ASSET, Readings
from edge_agent.messages.values import FLOAT32_MAX, LATEST_TIME_S, read_iso_time, read_number, read_numbers

__all__ = ["SensorData", "open_arrays", "read_sensor_data"]

_ARRAYS = ("readings", "time", "asset", "label")
_COLUMN_LIMIT = 100_000
"""Ten times the channels that a bundle may have."""
_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class SensorData:
    """Rows of a data file, in the file's order."""

    path: Path
    channels: tuple[str, ...]
    values: NDArray[np.float64]
    """Shape (rows, channels), in the channels' units; NaN where a cell is empty."""
    times: NDArray[np.float64] | None
    """Shape (rows,), epoch seconds."""
    assets: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    """Shape (rows,), 1 for an anomaly."""

    def __len__(self) -> int:
        return len(self.values)

    def batches(self, rows: int) -> Iterator[Readings]:
        """The rows as readings of at most this many, in order; without a `time` column a second apart from 0.

        A row without any value is no reading, as it is none in a message.
        """
        for start in range(0, len(self), rows):
            end = min(start + rows, len(self))
            assets = [DEFAULT_ASSET] * (end - start) if self.assets is None else list(self.assets[start:end])
            times = range(start, end) if self.times is None else self.times[start:end].tolist()
            with np.errstate(over="ignore"):
                values = self.values[start:end].astype(np.float32)
            readings = Readings(assets, times, values)
            if not readings.is_whole():
                kept = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
                if len(kept) < len(values):
                    readings = Readings([assets[row] for row in kept], [times[row] for row in kept], values[kept])
            yield readings

    def select(self, channels: tuple[str, ...]) -> SensorData:
        """The same rows with these channels, in this order.

        Raises:
            DataError: the file has no such column.
        """
        places = {name: place for place, name in enumerate(self.channels)}
        for name in channels:
            if name not in places:
                names = ", ".join(self.channels[:_SHOWN_NAMES]) + (", …" if len(self.channels) > _SHOWN_NAMES else "")
                raise DataError(f"{self.path}: has no column {name!r}; its channels are: {names}")
        if channels == self.channels:
            return self
        columns = [places[name] for name in channels]
        return SensorData(self.path, channels, self.values[:, columns], self.times, self.assets, self.labels)

    def where(self, keep: NDArray[np.bool_]) -> SensorData:
        """The rows where `keep` (shape (rows,)) is true."""
        return SensorData(
            self.path,
            self.channels,
            self.values[keep],
            None if self.times is None else self.times[keep],
            None if self.assets is None else tuple(a for a, kept in zip(self.assets, keep, strict=True) if kept),
            None if self.labels is None else self.labels[keep],
        )


def read_sensor_data(path: Path, channels: tuple[str, ...] = ()) -> SensorData:
    """Read a data file.

    Args:
        path: `.csv`, `.csv.gz` or `.npz`.
        channels: names for the columns of an `.npz`; for a CSV, the columns to take. Empty: what the file has.

    Raises:
        DataError: it is missing, empty, or a cell is not a number; the text names line and column.
    """
    try:
        data = _read_npz(path, channels) if path.suffix == ".npz" else _read_csv(path)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no such data file") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); is it whole, and CSV in UTF-8 or .npz?") from exc
    except MemoryError as exc:
        raise DataError(f"{path}: needs more memory than there is here; split it") from exc
    if len(data) == 0:
        raise DataError(f"{path}: has no rows")
    return data.select(channels) if channels else data


def _read_csv(path: Path) -> SensorData:
    with open_rows(path) as rows:
        _check_header(path, rows.header)
        columns = _Columns(path, rows.header)
        for block in rows.blocks():
            columns.add(block)
    return columns.data()


class _Columns:
    """The columns of a CSV, as far as it is read: numbers, because cells as texts take ten times their memory."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self._path = path
        self._channels = {name: place for place, name in enumerate(header) if name not in RESERVED_CHANNELS}
        self._others = {name: place for place, name in enumerate(header) if name in RESERVED_CHANNELS}
        self._values: list[NDArray[np.float64]] = []
        self._times: list[NDArray[np.float64]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._assets: list[str] = []
        self._known: dict[str, str] = {}

    def add(self, block: Block) -> None:
        path, lines = self._path, block.lines
        self._values.append(self._numbers(block))
        for name, place in self._others.items():
            cells = block.columns[place]
            if name == "time":
                self._times.append(_times(path, cells, lines))
            elif name == "label":
                self._labels.append(_labels(path, _floats(path, name, cells, lines)))
            elif name == "asset":
                named = [cell.strip() or DEFAULT_ASSET for cell in cells]
                self._assets += [self._known.setdefault(asset, asset) for asset in named]

    def _numbers(self, block: Block) -> NDArray[np.float64]:
        """The channels' values, shape (rows, channels): all at once, since a block may have more columns than rows."""
        try:
            values = read_numbers(list(chain.from_iterable(block.columns[place] for place in self._channels.values())))
        except ValueError:
            values = np.array([np.inf])
        if (np.abs(values) > FLOAT32_MAX).any():
            for name, place in self._channels.items():
                _floats(self._path, name, block.columns[place], block.lines)
        return values.reshape(len(self._channels), len(block.lines)).T

    def data(self) -> SensorData:
        return SensorData(
            path=self._path,
            channels=tuple(self._channels),
            values=np.concatenate(self._values or [np.empty((0, len(self._channels)))]),
            times=np.concatenate(self._times) if self._times else None,
            assets=tuple(self._assets) if "asset" in self._others else None,
            labels=np.concatenate(self._labels) if self._labels else None,
        )


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) > _COLUMN_LIMIT:
        raise DataError(f"{path}: line 1 names {len(header)} columns, at most {_COLUMN_LIMIT} are read")
    if len(set(header)) < len(header):
        (twice, _), *_ = Counter(header).most_common(1)
        raise DataError(f"{path}: line 1 names a column twice: {_short(twice)!r}")
    if not [name for name in header if name not in RESERVED_CHANNELS]:
        raise DataError(f"{path}: line 1 names no channel; expected a header such as time,pressure,flow")
    if len(header) == 1 and ";" in header[0]:
        raise DataError(f"{path}: line 1 is separated by ';', expected ','")
    near = [name for name in header if name not in RESERVED_CHANNELS and name.lower() in RESERVED_CHANNELS]
    if near:
        raise DataError(f"{path}: line 1 has a column {near[0]!r}; write it {near[0].lower()!r}")
    odd = [name for name in header if name and not re.fullmatch(CHANNEL_NAME, name)]
    if odd:
        raise DataError(
            f"{path}: line 1 has a column {_short(odd[0])!r}; a name holds no quotes, backslashes or control characters"
        )
    if "" in header:
        raise DataError(f"{path}: line 1 has a column without a name")
    numbers = [name for name in header if _is_number(name)]
    if numbers:
        raise DataError(f"{path}: line 1 must be a header, found the number {_short(numbers[0])}")


def _floats(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float64]:
    try:
        values = read_numbers(cells)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if cell.strip() and not _is_number(cell))
        raise DataError(f"{path}: line {lines[row]}, column {name!r}: {_short(cells[row])!r} is not a number") from None
    too_large = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    if too_large.size:
        row = int(too_large[0])
        raise DataError(
            f"{path}: line {lines[row]}, column {name!r}: {_short(cells[row])!r} is more than float32 holds"
        )
    return values


def _short(cell: str) -> str:
    return cell if len(cell) <= _SHOWN_CHARACTERS else f"{cell[:_SHOWN_CHARACTERS]}…"


def _is_number(text: str) -> bool:
    try:
        read_number(text)
    except ValueError:
        return False
    return True


def _times(path: Path, cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.float64]:
    times = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            times[row] = _read_time(cell)
        except ValueError:
            problem = f"{_short(cell)!r} is neither seconds nor ISO 8601"
            raise DataError(f"{path}: line {lines[row]}, column 'time': {problem}") from None
    return _checked_times(path, times, lines)


def _read_time(cell: str) -> float:
    try:
        return read_number(cell)
    except ValueError:
        return read_iso_time(cell)


def _checked_times(path: Path, times: NDArray[np.float64], lines: Sequence[int] | None = None) -> NDArray[np.float64]:
    wrong = np.flatnonzero(~((times >= 0) & (times <= LATEST_TIME_S)))
    if wrong.size:
        row = int(wrong[0])
        where = f"row {row}" if lines is None else f"line {lines[row]}, column"
        raise DataError(f"{path}: {where} 'time': {times[row]:.15g} is no epoch second (milliseconds, perhaps?)")
    return times


def _labels(path: Path, values: NDArray[np.float64]) -> NDArray[np.int64]:
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise DataError(f"{path}: column 'label' holds something else than 0 and 1")
    # What nobody has labelled is taken for normal.
    return np.nan_to_num(values).astype(np.int64)


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayArchive]:
    """A block in which the arrays of an `.npz` are read.

    Raises:
        DataError: it is missing or damaged, an array is a pickle, or not what its header claims; also from the block.
    """
    try:
        with path.open("rb") as file:
            yield ArrayArchive(file)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no such data file") from exc
    except (DataError, MemoryError):
        raise
    except ArchiveError as exc:
        raise DataError(f"{path}: {exc}") from exc
    # With a damaged file, zipfile and zlib raise errors whose only common base is Exception.
    except Exception as exc:
        raise DataError(f"{path}: is not an .npz of plain arrays ({exc})") from exc


def _read_npz(path: Path, channels: tuple[str, ...]) -> SensorData:
    with open_arrays(path) as arrays:
        found = {name: arrays.header(name) for name in _ARRAYS if name in arrays.names}
        _check_headers(path, arrays, found)
        read = {name: arrays.read(name) for name in found}
    values = read["readings"].astype(np.float64)
    too_large = np.argwhere(np.abs(values) > FLOAT32_MAX)
    if too_large.size:
        raise DataError(f"{path}: readings[{too_large[0][0]}, {too_large[0][1]}] is more than float32 holds")
    names = channels or tuple(f"c{number}" for number in range(1, values.shape[1] + 1))
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: readings has {values.shape[1]} columns, --channels names {len(names)}")
    labels = read.get("label")
    return SensorData(
        path=path,
        channels=names,
        values=values,
        times=_checked_times(path, read["time"].astype(np.float64)) if "time" in read else None,
        assets=tuple(str(asset) for asset in read["asset"]) if "asset" in read else None,
        labels=None if labels is None else _labels(path, labels.astype(np.float64)),
    )


def _check_headers(path: Path, arrays: ArrayArchive, found: dict[str, ArrayHeader]) -> None:
    readings = found.get("readings")
    if readings is None or len(readings.shape) != 2 or readings.shape[1] == 0 or readings.dtype.kind not in "fiu":
        held = {name: arrays.header(name) for name in arrays.names[:_SHOWN_NAMES]}
        shown = ", ".join(f"{name} {header.dtype}{list(header.shape)}" for name, header in held.items())
        raise DataError(f"{path}: expected numbers 'readings' of shape (rows, channels), found: {shown or 'nothing'}")
    for name in found.keys() - {"readings"}:
        if found[name].shape != readings.shape[:1]:
            raise DataError(f"{path}: {name!r} has shape {found[name].shape}, expected {readings.shape[:1]}")
        if name != "asset" and found[name].dtype.kind not in "fiub":
            raise DataError(f"{path}: {name!r} holds {found[name].dtype}, expected numbers")
