"""Rows of a CSV file, `.csv` or `.csv.gz`, read as a stream: what is wrong is told with its line, whatever the size."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_agent.errors import DataError
from edge_agent.files.archives import LIMIT_BYTES, LIMIT_VALUES

__all__ = ["LINE_CHARACTERS", "Block", "CsvRows", "check_unpacked", "open_unpacked"]

_BLOCK_CELLS = 1 << 13
"""A larger block is no faster, since its texts no longer fit a processor's cache."""
LINE_CHARACTERS = 1 << 24
"""More in one line are no reading: a hundred times what a bundle's most channels need."""
_PIECE_BYTES = 1 << 20
_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows that follow each other."""

    columns: list[tuple[str, ...]]
    """The cells of each column of the header."""
    lines: Sequence[int]
    """The number of each row's last line, counted from 1."""


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file whose content is unpacked if its name ends in `.gz`.

    Raises:
        OSError, EOFError, zlib.error: the file is missing, cannot be read or is damaged, also later.
    """
    with path.open("rb") as file:
        yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[misc]  # a GzipFile is one


class CsvRows:
    """The rows of a text.

    Args:
        path: for the texts of errors.
        content: in UTF-8, from the begin of a line.
        header: the cells of the first line, if that was read before; None reads it.
        lines: number of lines that were read before.

    Raises:
        DataError: the first line cannot be read.
    """

    def __init__(self, path: Path, content: BinaryIO, header: list[str] | None = None, lines: int = 0) -> None:
        self._path = path
        self._before = lines
        text = io.TextIOWrapper(content, encoding="utf-8-sig" if header is None else "utf-8", newline="")
        # In the end an empty line, which is a row of its own unless a quote is open. A line that is cut has another
        # number of cells than the header, or a cell that is too long.
        ends = iter(functools.partial(text.readline, LINE_CHARACTERS), "")
        self._has_ended = False
        self._reader = csv.reader(itertools.chain(ends, self._end()))
        self._peeked: list[Block] = []
        self.header = self._first_row() if header is None else header
        """The cells of the first row."""
        if sum(map(len, self.header)) + len(self.header) >= LINE_CHARACTERS:
            raise DataError(f"{path}: line 1 has more than {LINE_CHARACTERS} characters")

    def peek(self, count: int) -> Iterator[Block]:
        """The first rows after the header, at least so many if there are; `blocks` gives them again.

        Raises:
            DataError: as `blocks`.
        """
        for block in self._take_blocks():
            self._peeked.append(block)
            yield block
            count -= len(block.lines)
            if count <= 0:
                return

    def blocks(self) -> Iterator[Block]:
        """The rows after the header, without empty lines.

        Raises:
            DataError: a row has not as many cells as the header, or the text is no CSV in UTF-8.
        """
        while self._peeked:
            yield self._peeked.pop(0)
        yield from self._take_blocks()

    def _first_row(self) -> list[str]:
        rows, _ = self._take(1)
        return [cell.strip() for cell in rows[0]] if rows else []

    def _take_blocks(self) -> Iterator[Block]:
        width = len(self.header)
        while True:
            rows, lines = self._take(max(1, _BLOCK_CELLS // width))
            if not all(rows):
                lines = [line for row, line in zip(rows, lines, strict=True) if row]
                rows = [row for row in rows if row]
            if not rows and self._has_ended:
                return
            for row, line in zip(rows, lines, strict=True) if set(map(len, rows)) - {width} else ():
                if len(row) != width:
                    raise DataError(f"{self._path}: line {line} has {len(row)} cells, expected {width}")
            if rows:
                yield Block(list(zip(*rows, strict=True)), lines)

    def _end(self) -> Iterator[str]:
        self._has_ended = True
        yield "\n"

    def _take(self, count: int) -> tuple[list[list[str]], Sequence[int]]:
        """So many rows, fewer in the end, and the number of each one's last line."""
        before = self._lines_read
        rows: list[list[str]] = []
        try:
            rows.extend(itertools.islice(self._reader, count))
        except csv.Error as exc:
            limit = csv.field_size_limit()
            why = f"a cell has more than {limit} characters; is a quote never closed?" if "limit" in str(exc) else exc
            raise DataError(f"{self._path}: line {_lines_of(rows, before)[-1] + 1}: {why}") from exc
        except UnicodeDecodeError as exc:
            # The text is decoded a piece at a time, and all lines before this piece have been read.
            line = self._lines_read + 1 + exc.object[: exc.start].count(b"\n")
            raise DataError(f"{self._path}: line {line} is not text in UTF-8 ({exc.reason})") from exc
        if self._has_ended and rows and rows[-1]:
            raise DataError(f"{self._path}: line {_lines_of(rows, before)[-2] + 1}: a quote is never closed")
        if self._lines_read - before == len(rows):
            return rows, range(before + 1, before + 1 + len(rows))
        return rows, _lines_of(rows, before)[1:]

    @property
    def _lines_read(self) -> int:
        return self._before + self._reader.line_num


def _lines_of(rows: Sequence[Sequence[str]], before: int) -> list[int]:
    """Where rows end that come after so many lines, and before them the number of these."""
    return list(itertools.accumulate((1 + sum(len(_BREAK.findall(c)) for c in row) for row in rows), initial=before))


def check_unpacked(path: Path) -> None:
    """Count what a `.gz` unpacks to, before any of it is kept.

    Raises:
        DataError: it is more than a data file may hold.
        OSError, EOFError, zlib.error: it cannot be read, or is damaged.
    """
    size = cells = 0
    with gzip.open(path) as content:
        while piece := content.read(_PIECE_BYTES):
            size += len(piece)
            cells += piece.count(b",") + max(piece.count(b"\n"), piece.count(b"\r"))
            if size > LIMIT_BYTES or cells > LIMIT_VALUES:
                most = f"{LIMIT_BYTES} bytes or {LIMIT_VALUES} cells"
                raise DataError(f"{path}: unpacks to more than {most}; split it, or give it unpacked")
