"""CSV files by our own reader, which needs no package, and tells what is wrong with its line."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.data_files.cells import read_assets, read_floats, read_labels, read_times
from edge_agent.data_files.columns import LOOKED_AT, Columns, Look, check_header, look_at, make_plan
from edge_agent.data_files.fast_text import FastText, read_chunk
from edge_agent.data_files.sensor_data import SensorData
from edge_agent.files.csv_rows import Block, CsvRows, check_unpacked, open_unpacked
from edge_agent.messages.values import FLOAT32_MAX, read_numbers

__all__ = ["CsvTable", "open_csv"]

_BUFFER_BYTES = 1 << 16


@contextmanager
def open_csv(path: Path, columns: Columns) -> Iterator[CsvTable]:
    """Open a `.csv` or `.csv.gz`, and look at its header and its first rows.

    Raises:
        DataError: its columns are not what they should be, or it unpacks to more than a data file may hold.
        OSError, EOFError, zlib.error: it is missing, cannot be read or is damaged, also later.
    """
    if path.suffix == ".gz":
        check_unpacked(path)
    with open_unpacked(path) as content:
        yield CsvTable(path, content, columns)


class CsvTable:
    """An open CSV file.

    The fast reader takes what it can vouch for, a chunk of the file at a time; from the first other chunk on, the rest
    is read by our own reader. Both give the same.

    Args:
        path: for the texts of errors.
        content: from its begin.
        columns: what somebody has said of them.

    Raises:
        DataError: its columns are not what they should be.
    """

    def __init__(self, path: Path, content: BinaryIO, columns: Columns) -> None:
        self._path = path
        self._content = content
        self._fast = FastText.of_installed(path)
        self._first = read_chunk(content) if self._fast is not None else b""
        # The first chunk is kept, because a pipe cannot be read again.
        is_enough = self._fast is not None and self._fast.can_begin_with(self._first, LOOKED_AT)
        self._rows = CsvRows(path, io.BytesIO(self._first) if is_enough else _rejoin([self._first], content))
        if not is_enough:
            self._fast = None
        header = self._rows.header
        check_header(path, header, columns)
        self.plan = make_plan(path, _looks_of(self._rows), columns)
        self._known: dict[str, str] = {}

    def blocks(self) -> Iterator[SensorData]:
        """The rows in the file's order, in blocks; to be called once.

        Raises:
            DataError: a row or a cell is not what it should be; the text names the line.
        """
        rows = self._rows
        if self._fast is not None:
            for found in self._fast.blocks(self._first, self._content, self.plan):
                if not isinstance(found, SensorData):
                    rows = CsvRows(self._path, _rejoin(found, self._content), rows.header, lines=self._fast.lines)
                    break
                yield found
            else:
                return
        for block in rows.blocks():
            yield self._read(block)

    def first_time(self) -> float | None:
        """The time of the first row, epoch seconds; None without a column of times or a row.

        To be called in place of `blocks`.
        """
        name = self.plan.time
        block = None if name is None else next(self._rows.blocks(), None)
        if name is None or block is None:
            return None
        return float(read_times(self._path, name, block.columns[self.plan.places[name]][:1], block.lines)[0])

    def share_read(self) -> float | None:
        """How much of the file's bytes was read, up to 16 MB ahead of what `blocks` gave; None of a pipe."""
        descriptor = self._content.fileno()
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return None
        return min(os.lseek(descriptor, 0, os.SEEK_CUR) / found.st_size, 1.0)

    def _read(self, block: Block) -> SensorData:
        path, plan = self._path, self.plan

        def cells(name: str) -> tuple[str, ...]:
            return block.columns[plan.places[name]]

        values = self._values(block)
        times = None if plan.time is None else read_times(path, plan.time, cells(plan.time), block.lines)
        labels: NDArray[np.int64] | None = None
        if plan.label is not None:
            labels = read_labels(path, plan.label, cells(plan.label), block.lines)
        assets: tuple[str, ...] | None = None
        if plan.asset is not None:
            named = read_assets(path, plan.asset, cells(plan.asset), block.lines)
            assets = tuple(self._known.setdefault(asset, asset) for asset in named)
        return SensorData(path, plan.channels, values, times, assets, labels)

    def _values(self, block: Block) -> NDArray[np.float64]:
        """The channels' values, shape (rows, channels): all at once, since a block may have more columns than rows."""
        places = {name: self.plan.places[name] for name in self.plan.channels}
        try:
            values = read_numbers(list(chain.from_iterable(block.columns[place] for place in places.values())))
        except ValueError:
            values = np.array([np.inf])
        if (np.abs(values) > FLOAT32_MAX).any():
            for name, place in places.items():
                read_floats(self._path, name, block.columns[place], block.lines)
        return values.reshape(len(places), len(block.lines)).T


def _looks_of(rows: CsvRows) -> dict[str, Look]:
    """What the first rows hold, by column."""
    blocks = list(rows.peek(LOOKED_AT))
    lines = [line for block in blocks for line in block.lines][:LOOKED_AT]
    return {
        name: look_at([cell for block in blocks for cell in block.columns[place]][:LOOKED_AT], lines)
        for place, name in enumerate(rows.header)
    }


class _Rejoined(io.RawIOBase):
    """Chunks that were read already, and what comes behind them."""

    def __init__(self, chunks: list[bytes], content: BinaryIO) -> None:
        self._chunks = [memoryview(chunk) for chunk in chunks if chunk]
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunks:
            piece = self._content.read(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        part = self._chunks[0][: len(buffer)]
        buffer[: len(part)] = part
        self._chunks[0] = self._chunks[0][len(part) :]
        if not self._chunks[0]:
            self._chunks.pop(0)
        return len(part)


def _rejoin(chunks: list[bytes], content: BinaryIO) -> BinaryIO:
    # Also without chunks: a text that is dropped closes what it reads, which is not its own.
    return io.BufferedReader(_Rejoined(chunks, content), _BUFFER_BYTES)
