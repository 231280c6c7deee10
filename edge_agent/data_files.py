"""Sensor data files: CSV (`.csv`, `.csv.gz`) with a header, or `.npz`; docs/data.md describes the columns."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import CHANNEL_NAME, RESERVED_CHANNELS
from edge_agent.errors import DataError
from edge_agent.messages.reading import DEFAULT_ASSET, Readings
from edge_agent.messages.values import FLOAT32_MAX, LATEST_TIME_S, read_iso_time, read_number, read_numbers

__all__ = ["SensorData", "read_sensor_data"]


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
        for name in channels:
            if name not in self.channels:
                raise DataError(f"{self.path}: has no column {name!r}; its channels are: {', '.join(self.channels)}")
        if channels == self.channels:
            return self
        columns = [self.channels.index(name) for name in channels]
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
    except (OSError, UnicodeDecodeError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); is it whole, and CSV in UTF-8 or .npz?") from exc
    if len(data) == 0:
        raise DataError(f"{path}: has no rows")
    return data.select(channels) if channels else data


def _read_csv(path: Path) -> SensorData:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    header = [cell.strip() for cell in next(reader, [])]
    _check_header(path, header)
    columns: list[list[str]] = [[] for _ in header]
    lines: list[int] = []
    for row in reader:
        if not row:
            continue
        lines.append(reader.line_num)
        if len(row) != len(header):
            raise DataError(f"{path}: line {reader.line_num} has {len(row)} cells, expected {len(header)}")
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    by_name = dict(zip(header, columns, strict=True))
    channels = tuple(name for name in header if name not in RESERVED_CHANNELS)
    values = [_floats(path, name, by_name[name], lines) for name in channels]
    labels = _floats(path, "label", by_name["label"], lines) if "label" in by_name else None
    return SensorData(
        path=path,
        channels=channels,
        values=np.stack(values, axis=1) if values[0].size else np.empty((0, len(channels))),
        times=_times(path, by_name["time"], lines) if "time" in by_name else None,
        assets=tuple(cell.strip() or DEFAULT_ASSET for cell in by_name["asset"]) if "asset" in by_name else None,
        labels=None if labels is None else _labels(path, labels),
    )


def _check_header(path: Path, header: list[str]) -> None:
    if len(set(header)) < len(header):
        raise DataError(f"{path}: line 1 names a column twice: {', '.join(header)}")
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
            f"{path}: line 1 has a column {odd[0]!r}; a name holds no quotes, backslashes or control characters"
        )
    if "" in header:
        raise DataError(f"{path}: line 1 has a column without a name")
    numbers = [name for name in header if _is_number(name)]
    if numbers:
        raise DataError(f"{path}: line 1 must be a header, found the number {numbers[0]}")


def _floats(path: Path, name: str, cells: list[str], lines: list[int]) -> NDArray[np.float64]:
    try:
        values = read_numbers(cells)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if cell.strip() and not _is_number(cell))
        raise DataError(f"{path}: line {lines[row]}, column {name!r}: {cells[row]!r} is not a number") from None
    too_large = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    if too_large.size:
        row = int(too_large[0])
        raise DataError(f"{path}: line {lines[row]}, column {name!r}: {cells[row]!r} is more than float32 holds")
    return values


def _is_number(text: str) -> bool:
    try:
        read_number(text)
    except ValueError:
        return False
    return True


def _times(path: Path, cells: list[str], lines: list[int]) -> NDArray[np.float64]:
    times = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            times[row] = _read_time(cell)
        except ValueError:
            problem = f"{cell!r} is neither seconds nor ISO 8601"
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


def _read_npz(path: Path, channels: tuple[str, ...]) -> SensorData:
    try:
        # numpy leaves the file open when it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, TypeError) as exc:
        raise DataError(f"{path}: is not an .npz of plain arrays") from exc
    readings = found.get("readings")
    if readings is None or readings.ndim != 2 or readings.dtype.kind not in "fiu":
        shown = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in found.items())
        raise DataError(f"{path}: expected numbers 'readings' of shape (rows, channels), found: {shown or 'nothing'}")
    for name in ("time", "asset", "label"):
        if name in found and found[name].shape != (len(readings),):
            raise DataError(f"{path}: {name!r} has shape {found[name].shape}, expected {(len(readings),)}")
        if name in found and name != "asset" and found[name].dtype.kind not in "fiub":
            raise DataError(f"{path}: {name!r} holds {found[name].dtype}, expected numbers")
    values = readings.astype(np.float64)
    too_large = np.argwhere(np.abs(values) > FLOAT32_MAX)
    if too_large.size:
        raise DataError(f"{path}: readings[{too_large[0][0]}, {too_large[0][1]}] is more than float32 holds")
    names = channels or tuple(f"c{number}" for number in range(1, values.shape[1] + 1))
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: readings has {values.shape[1]} columns, --channels names {len(names)}")
    labels = found.get("label")
    return SensorData(
        path=path,
        channels=names,
        values=values,
        times=_checked_times(path, found["time"].astype(np.float64)) if "time" in found else None,
        assets=tuple(str(asset) for asset in found["asset"]) if "asset" in found else None,
        labels=None if labels is None else _labels(path, labels.astype(np.float64)),
    )
