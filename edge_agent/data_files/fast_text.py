"""CSV files by Arrow's reader where it is installed: ten times as fast as ours, for what both read alike."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files.cells import is_number
from edge_agent.data_files.columns import Plan
from edge_agent.data_files.sensor_data import SensorData
from edge_agent.files.csv_rows import LINE_CHARACTERS
from edge_agent.messages.values import FLOAT32_MAX, LATEST_TIME_S, epoch_seconds

__all__ = ["FastText", "read_chunk"]

_CHUNK_BYTES = 1 << 21
"""Larger ones are no faster, and each takes four times its size while it is read."""
_THREADS = 2
_AHEAD = 8
"""Chunks that are read while the rows of an earlier one are used, or a model is loaded."""
_LONG_BYTES = 1 << 16
"""Half of what a cell may have: a cell that is too long covers a piece of this size, wherever it begins."""
_EXACT_US = 1 << 53
"""Microseconds since 1970 up to which a float64 is exact: those of the year 2255."""
_LINE_END = ord("\n")
_MARK = b"\xef\xbb\xbf"


def read_chunk(content: BinaryIO) -> bytes:
    """Some whole lines: the next two megabytes, and the rest of the last line; empty at the end."""
    chunk = content.read(_CHUNK_BYTES)
    return chunk + content.readline(LINE_CHARACTERS) if chunk else b""


@dataclass(slots=True)
class FastText:
    """Reads the chunks of one CSV file.

    Nothing is told by it: what it does not vouch for is read again, and told, by our own reader.
    """

    path: Path
    """For what is read, not for texts of errors."""
    arrow: Any
    """The package `pyarrow`, with its module `csv`."""
    known: dict[str, str] = field(default_factory=dict)
    """Names of assets, each kept once."""
    lines: int = 0
    """Number of lines before what is not read yet, or not vouched for."""

    @classmethod
    def of_installed(cls, path: Path) -> FastText | None:
        """Such a reader, or None where Arrow is not installed."""
        try:
            import pyarrow as arrow  # noqa: ICN001 - no abbreviation
            import pyarrow.csv
        # Also one that is broken, or made for another numpy: all works without it.
        except Exception:  # noqa: BLE001
            return None
        return cls(path, arrow)

    def can_begin_with(self, chunk: bytes, rows: int) -> bool:
        """True if the first chunk of a file has a header and so many rows, or all, that may be read here."""
        head, end, body = chunk.partition(b"\n")
        is_enough = len(chunk) < _CHUNK_BYTES or _lines_of(body) >= rows
        # Names may be quoted, if no line ends in them.
        names = head.removeprefix(_MARK).replace(b'"', b"") + end
        return bool(body) and is_enough and head.count(b'"') % 2 == 0 and _is_plain(names) and _is_plain(body)

    def blocks(self, first: bytes, content: BinaryIO, plan: Plan) -> Iterator[SensorData | list[bytes]]:
        """The rows, chunk by chunk, read ahead by a thread.

        Args:
            first: the file's first chunk.
            content: what is behind it.
            plan: what to read.

        Yields:
            Blocks of rows. The last may be a list instead: chunks that were read and are not vouched for.
        """
        chunks = chain([first[first.index(b"\n") + 1 :]], iter(lambda: read_chunk(content), b""))
        with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="edge-agent.read") as beside:
            ahead: deque[tuple[bytes, Future[SensorData | None]]] = deque()
            self.lines = 1
            while True:
                for chunk in islice(chunks, _AHEAD - len(ahead)):
                    ahead.append((chunk, beside.submit(self._read, chunk, plan)))
                if not ahead:
                    return
                chunk, found = ahead.popleft()
                block = found.result()
                if block is None:
                    yield [chunk, *(later for later, _ in ahead)]
                    return
                self.lines += _lines_of(chunk)
                yield block

    def _read(self, chunk: bytes, plan: Plan) -> SensorData | None:
        """The rows of a chunk; None if it has something that Arrow might read otherwise than we."""
        if not _is_plain(chunk):
            return None
        try:
            table = self._table(chunk, plan)
        except self.arrow.ArrowException:
            return None
        values = np.empty((table.num_rows, len(plan.channels)))
        missing = 0
        for place, name in enumerate(plan.channels):
            column = table.column(name)
            missing += column.null_count
            values[:, place] = column.to_numpy()
        if not _are_numbers(values, missing):
            return None
        times = None if plan.time is None else self._times(table.column(plan.time))
        labels = None if plan.label is None else _labels(table.column(plan.label))
        if (times is None) != (plan.time is None) or (labels is None) != (plan.label is None):
            return None
        assets = None if plan.asset is None else tuple(self._assets(table.column(plan.asset)))
        if assets is not None and "" in self.known:
            return None  # our own reader says which row names no asset
        return SensorData(self.path, plan.channels, values, times, assets, labels)

    def _table(self, chunk: bytes, plan: Plan) -> Any:
        csv = self.arrow.csv
        number = self.arrow.float64()
        types = dict.fromkeys(plan.names, number)
        if plan.time is not None:
            types[plan.time] = self._time_type(chunk, plan.places[plan.time])
        if plan.asset is not None:
            types[plan.asset] = self.arrow.dictionary(self.arrow.int32(), self.arrow.string())
        return csv.read_csv(
            self.arrow.py_buffer(chunk),
            read_options=csv.ReadOptions(column_names=list(plan.places), block_size=len(chunk) + 1, use_threads=False),
            parse_options=csv.ParseOptions(quote_char=False, escape_char=False),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=plan.names, null_values=[""], strings_can_be_null=False
            ),
        )

    def _time_type(self, chunk: bytes, place: int) -> Any:
        """The type of times such as the chunk's first one; others in it end in an error."""
        cells = io.BytesIO(chunk).readline().split(b",")
        first = cells[place].decode().strip() if place < len(cells) else ""
        if is_number(first):
            return self.arrow.float64()
        has_zone = re.search(r":.*(Z|[+-]\d\d(:?\d\d)?)$", first)
        return self.arrow.timestamp("us", "UTC" if has_zone else None)

    def _times(self, column: Any) -> NDArray[np.float64] | None:
        if column.null_count:
            return None
        if column.type == self.arrow.float64():
            times = epoch_seconds(column.to_numpy())
        else:
            whole = column.cast(self.arrow.int64()).to_numpy()
            if (whole >= _EXACT_US).any():
                return None
            times = whole / 1e6
        return times if ((times >= 0) & (times <= LATEST_TIME_S)).all() else None

    def _assets(self, column: Any) -> Iterator[str]:
        for chunk in column.chunks:
            named = [name.strip() for name in chunk.dictionary.to_pylist()]
            names = np.array([self.known.setdefault(name, name) for name in named], dtype=object)
            yield from names[chunk.indices.to_numpy()].tolist()


def _are_numbers(values: NDArray[np.float64], missing: int) -> bool:
    """True if so many values are NaN and float32 holds all others.

    A cell "nan" is a missing value for us too, but Arrow takes some for one that we do not, such as "nan(1)".
    """
    sizes = np.abs(values)
    if not missing:
        return bool(sizes.size == 0 or sizes.max() <= FLOAT32_MAX)
    return np.count_nonzero(np.isnan(sizes)) == missing and not (sizes > FLOAT32_MAX).any()


def _labels(column: Any) -> NDArray[np.int64] | None:
    values = column.to_numpy()
    without = np.isnan(values)
    if np.count_nonzero(without) != column.null_count or not ((values == 0) | (values == 1) | without).all():
        return None
    labels: NDArray[np.int64] = np.where(without, 0, values).astype(np.int64)
    return labels


def _is_plain(chunk: bytes) -> bool:
    """True if whole lines have nothing that readers take in several ways: quotes, odd line ends, cells without end."""
    if b'"' in chunk or b"\0" in chunk or chunk.startswith(_MARK) or len(chunk) >= LINE_CHARACTERS:
        return False
    if b"\r" in chunk and chunk.count(b"\r") != chunk.count(b"\r\n"):
        return False
    if not chunk.isascii():
        try:
            chunk.decode()
        except UnicodeDecodeError:
            return False
    pieces = (chunk[start : start + _LONG_BYTES] for start in range(0, len(chunk) - _LONG_BYTES, _LONG_BYTES))
    return all(b"," in piece or b"\n" in piece for piece in pieces)


def _lines_of(chunk: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == _LINE_END))
