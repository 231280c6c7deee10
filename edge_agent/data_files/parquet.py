"""Parquet files, by Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files.cells import checked_labels, checked_times, read_assets, read_times
from edge_agent.data_files.columns import LOOKED_AT, Columns, Look, check_header, make_plan, may_be_a_role
from edge_agent.data_files.sensor_data import SensorData
from edge_agent.errors import DataError, MissingExtraError
from edge_agent.files.archives import LIMIT_BYTES, LIMIT_VALUES
from edge_agent.messages.values import FLOAT32_MAX

__all__ = ["ParquetTable", "open_parquet"]

_BLOCK_ROWS = 1 << 15
_BUFFER_BYTES = 1 << 20
_SECOND = {"s": 1, "ms": 10**3, "us": 10**6}


@contextmanager
def open_parquet(path: Path, columns: Columns) -> Iterator[ParquetTable]:
    """Open a Parquet file, and look at its columns.

    Raises:
        MissingExtraError: Arrow is not installed.
        DataError: it is no such file, its columns are not what they should be, or it claims more values than it can
            have; also from the block.
        OSError: it is missing, or cannot be read.
    """
    try:
        import pyarrow as arrow  # noqa: ICN001 - no abbreviation
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "files") from exc
    with path.open("rb") as source:
        try:
            with arrow.parquet.ParquetFile(
                source, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            ) as file:
                yield ParquetTable(path, arrow, file, columns)
        except arrow.ArrowException as exc:
            raise DataError(f"{path}: is no whole Parquet file ({_first_line(exc)})") from exc


class ParquetTable:
    """An open Parquet file.

    Args:
        path: for the texts of errors.
        arrow: the package `pyarrow`.
        file: a `ParquetFile`.
        columns: what somebody has said of its columns.

    Raises:
        DataError: its columns are not what they should be, or it claims more values than it can have.
    """

    def __init__(self, path: Path, arrow: Any, file: Any, columns: Columns) -> None:
        self._path = path
        self._arrow = arrow
        self._file = file
        self._rows = 0
        schema = file.schema_arrow
        check_header(path, schema.names, columns, "its schema")
        self.plan = make_plan(path, self._looks(schema), columns)
        _check_size(path, file.metadata, len(self.plan.names))

    def blocks(self) -> Iterator[SensorData]:
        """The rows in the file's order, in blocks; to be called once.

        Raises:
            DataError: a value is not what it should be; the text names the row, counted from 0.
        """
        for batch in self._file.iter_batches(batch_size=_BLOCK_ROWS, columns=self.plan.names):
            block = self._read(batch, self._rows)
            self._rows += batch.num_rows
            yield block

    def first_time(self) -> float | None:
        """The time of the first row, epoch seconds; None without a column of times or a row."""
        if self.plan.time is None:
            return None
        for batch in self._file.iter_batches(batch_size=1, columns=[self.plan.time]):
            return float(self._times(batch.column(self.plan.time), self.plan.time, 0)[0])
        return None

    def share_read(self) -> float | None:
        """How many of the file's rows `blocks` gave; None without any."""
        every: int = self._file.metadata.num_rows
        return self._rows / every if every else None

    def _read(self, batch: Any, row: int) -> SensorData:
        path, plan = self._path, self.plan
        values = np.empty((batch.num_rows, len(plan.channels)))
        for place, name in enumerate(plan.channels):
            values[:, place] = self._numbers(batch.column(name), name)
        wrong = np.argwhere(np.abs(values) > FLOAT32_MAX)
        if wrong.size:
            found, place = wrong[0]
            raise DataError(
                f"{path}: row {row + found}, column {plan.channels[place]!r}: {values[found, place]:g} is more than "
                "float32 holds"
            )
        times = labels = assets = None
        if plan.time is not None:
            times = self._times(batch.column(plan.time), plan.time, row)
        if plan.label is not None:
            labels = checked_labels(path, plan.label, self._numbers(batch.column(plan.label), plan.label))
        if plan.asset is not None:
            names = batch.column(plan.asset).cast(self._arrow.string()).to_pylist()
            cells = [name or "" for name in names]
            assets = read_assets(path, plan.asset, cells, range(row, row + len(cells)), line="row")
        return SensorData(path, plan.channels, values, times, assets, labels)

    def _numbers(self, column: Any, name: str) -> NDArray[np.float64]:
        """A column as float64, NaN where it is null."""
        try:
            if self._arrow.types.is_boolean(column.type):
                column = column.cast(self._arrow.int8())
            numbers: NDArray[np.float64] = column.cast(self._arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        except (self._arrow.ArrowInvalid, self._arrow.ArrowNotImplementedError) as exc:
            what = (
                "no time, which is a timestamp, a date, ISO 8601 or seconds" if name == self.plan.time else "no number"
            )
            raise DataError(
                f"{self._path}: column {name!r} holds {column.type}, which is {what} ({_first_line(exc)})"
            ) from exc
        return numbers

    def _times(self, column: Any, name: str, row: int) -> NDArray[np.float64]:
        """A column of times as epoch seconds; those without a zone are taken as UTC."""
        types = self._arrow.types
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = column.type
        rows = range(row, row + len(column))
        if column.null_count:
            raise DataError(f"{self._path}: row {rows[column.is_null().to_pylist().index(True)]}, {name!r}: is empty")
        if types.is_string(kind) or types.is_large_string(kind):
            return read_times(self._path, name, column.to_pylist(), rows, line="row")
        if types.is_date(kind):
            column, kind = column.cast(self._arrow.timestamp("s")), self._arrow.timestamp("s")
        if types.is_timestamp(kind):
            counts = column.cast(self._arrow.int64()).to_numpy()
            # A float64 of seconds has no nanoseconds, and neither have times in texts as we read them.
            times = counts // 1000 / _SECOND["us"] if kind.unit == "ns" else counts / _SECOND[kind.unit]
        else:
            times = self._numbers(column, name)
        return checked_times(self._path, name, times, rows, line="row")

    def _looks(self, schema: Any) -> dict[str, Look]:
        """What each column holds: its type says it, and of numbers under a doubtful name their first rows."""
        doubtful = [field.name for field in schema if may_be_a_role(field.name) and self._is_number(field.type)]
        first: dict[str, float | None] = {}
        if doubtful:
            for batch in self._file.iter_batches(batch_size=LOOKED_AT, columns=doubtful):
                for name in doubtful:
                    numbers = self._numbers(batch.column(name), name)
                    known = numbers[~np.isnan(numbers)]
                    first[name] = float(known[0]) if known.size else None
                break
        return {field.name: self._look(field.type, first.get(field.name)) for field in schema}

    def _is_number(self, kind: Any) -> bool:
        types = self._arrow.types
        return bool(
            types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
        )

    def _look(self, kind: Any, first: float | None) -> Look:
        types = self._arrow.types
        if self._is_number(kind):
            return Look(first=first)
        return Look(text=str(kind), is_times=types.is_timestamp(kind) or types.is_date(kind))


def _check_size(path: Path, metadata: Any, width: int) -> None:
    """Refuse what claims to be far more than it is: a run of equal values takes a few bytes, whatever its length."""
    size_bytes = path.stat().st_size
    values = metadata.num_rows * width
    if values > max(LIMIT_VALUES, size_bytes):
        raise DataError(
            f"{path}: claims {values} values in {size_bytes} bytes, at most {LIMIT_VALUES} are read; split it"
        )
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.total_byte_size > max(LIMIT_BYTES, size_bytes):
            raise DataError(
                f"{path}: a row group unpacks to {group.total_byte_size} bytes, at most {LIMIT_BYTES} are read"
            )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
