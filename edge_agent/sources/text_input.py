"""Readings from a file or a pipe: CSV with a header, or one JSON object on each line."""

from __future__ import annotations

import csv
import errno
import logging
import math
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import DataError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import DEFAULT_ASSET
from edge_agent.messages.topic import Topic, Topics
from edge_agent.messages.topic_names import input_topic
from edge_agent.messages.values import read_number
from edge_agent.sources.decode import PAYLOAD_LIMIT_BYTES
from edge_agent.sources.formats.tolerant import quote_words
from edge_agent.sources.waiting import Waiter

__all__ = ["TextInput"]

_STDIN = 0
_READ_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_NAME = ""
"""Of an asset that is neither text nor an integer, or an empty cell: no asset can be called so, so it is rejected as
`bad_topic`."""


log = logging.getLogger(__name__)


class _Named(msgspec.Struct):
    asset: str | int | None = None


class TextInput:
    """The lines of one stream's `input`, each as if it were a message.

    Nobody keeps a line for us: those that were read and not committed are lost with a crash.

    Args:
        stream: the stream's name.
        place: a file, a named pipe, or `-` for the standard input. A named pipe never ends.

    Raises:
        DataError: it cannot be opened.
    """

    may_repeat = False

    def __init__(self, stream: str, place: str) -> None:
        self._stream = stream
        self._place = place
        try:
            self._file = _standard_input() if place == "-" else _open(place)
        except OSError as exc:
            raise DataError(f"input {place}: cannot be read ({exc.strerror})") from exc
        self._columns: list[str] | None = None
        self._is_csv: bool | None = None
        self._read = b""
        self._lines: list[bytes] = []
        self._skipping = False
        self._at_end = False
        self.given = 0
        """Messages so far, good or not."""
        self._topics = Topics()
        self._waiter = Waiter()

    @property
    def ended(self) -> bool:
        """Whether everything has been taken."""
        return self._at_end and not self._lines

    def readers(self) -> list[int]:
        """See `Source.readers`."""
        return [] if self._at_end else [self._file]

    def has_backlog(self) -> bool:
        """See `Source.has_backlog`."""
        return bool(self._lines)

    def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`.

        Raises:
            DataError: it cannot be read any more.
        """
        if len(self._lines) < limit and not self._at_end and self._waiter.wait([self._file], [], 0):
            try:
                data = os.read(self._file, _READ_BYTES)
            except OSError as exc:
                raise DataError(f"input {self._place}: cannot be read ({exc.strerror})") from exc
            self._receive(data)
        return self._next(limit)

    def leave(self) -> list[Delivery]:
        """See `Source.leave`."""
        return self._next(len(self._lines))

    def ack(self, deliveries: list[Delivery]) -> None:
        """See `Source.ack`; there is nobody to tell."""

    def close(self) -> None:
        """Close the file; the standard input stays as it is."""
        if self._file != _STDIN:
            os.close(self._file)

    def _receive(self, data: bytes) -> None:
        if self._is_csv is None and not self._read and not self._lines and data.startswith(_GZIP):
            raise DataError(f"input {self._place}: is compressed; give it unpacked, as with zcat FILE and input = '-'")
        self._at_end = not data
        *lines, self._read = (self._read + data).split(b"\n")
        if self._at_end and self._read:
            lines.append(self._read)
            self._read = b""
        for line in lines:
            if not self._skipping:
                self._lines.append(line)
            self._skipping = False
        if len(self._read) > PAYLOAD_LIMIT_BYTES:
            # A line without an end: what there is of it is rejected as too large, and the rest is not even kept.
            if not self._skipping:
                self._lines.append(self._read)
            self._read, self._skipping = b"", True

    def _next(self, limit: int) -> list[Delivery]:
        lines, self._lines = self._lines[:limit], self._lines[limit:]
        found = [delivery for line in lines for delivery in self._deliveries(line)]
        self.given += len(found)
        return found

    def _deliveries(self, line: bytes) -> list[Delivery]:
        line = line.strip()
        if self._is_csv is None:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return []
        if self._is_csv is None:
            self._is_csv = not line.startswith((b"{", b"["))
        found = self._from_csv(line) if self._is_csv else _by_asset(line)
        return [Delivery(self._topic(asset), payload, 0, False) for asset, payload in found]

    def _topic(self, asset: str) -> Topic:
        return self._topics.get(asset) or self._topics.meet(asset, input_topic(self._stream, asset).encode())

    def _from_csv(self, line: bytes) -> list[tuple[str, bytes]]:
        """A row's asset, and the JSON object that the row stands for; nothing for a header."""
        try:
            cells = next(csv.reader([line.decode()]))
        except (csv.Error, UnicodeDecodeError, StopIteration):
            return [(DEFAULT_ASSET, line)]  # rejected by the decoder, with the text
        cells = [cell.strip() for cell in cells]
        if self._columns is None or sorted(cells) == sorted(self._columns):
            # Each writer of a named pipe may send the header, and have an order of its own.
            self._columns = cells
            if len(cells) == 1 and any(other in line for other in (b";", b"\t")):
                log.warning(
                    "input has one column; are its cells separated by ','? input=%s line=%r", self._place, line[:80]
                )
            return []
        if len(cells) != len(self._columns):
            # Rejected for its length, whatever the number of channels, with the row as the sample.
            return [(DEFAULT_ASSET, msgspec.json.encode({"row": ",".join(cells), "values": []}))]
        reading: dict[str, Any] = {
            name: _number(cell) for name, cell in zip(self._columns, cells, strict=True) if cell and name != "asset"
        }
        named = dict(zip(self._columns, cells, strict=True)).get("asset", DEFAULT_ASSET)
        return [(named or _NO_NAME, msgspec.json.encode(reading))]


def _standard_input() -> int:
    # Its number belongs to whatever was opened next when we were started without one.
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return _STDIN


def _open(place: str) -> int:
    mode = Path(place).stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder")
    # Open for writing too, a named pipe does not end when a writer goes away.
    return os.open(place, (os.O_RDWR if stat.S_ISFIFO(mode) else os.O_RDONLY) | os.O_CLOEXEC)


def _number(cell: str) -> float | str:
    with suppress(ValueError):
        number = read_number(cell)
        # JSON has neither NaN nor infinity; each would become null, which nobody counts as unreadable.
        if math.isfinite(number):
            return number
    return cell  # a time; as a value, the decoder counts it


def _by_asset(line: bytes) -> list[tuple[str, bytes]]:
    """A line's asset with its readings; an array that has several is taken apart."""
    for text in (line, quote_words(line)):
        try:
            return _readings_by_asset(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return [(DEFAULT_ASSET, line)]  # rejected by the decoder, with what is wrong


def _readings_by_asset(line: bytes) -> list[tuple[str, bytes]]:
    if not line.startswith(b"["):
        return [(_asset_of(line), line)]
    readings = _ARRAY.decode(line)
    assets = [_asset_of(reading) for reading in readings]
    if len(set(assets)) <= 1:
        return [(assets[0] if assets else DEFAULT_ASSET, line)]
    return [(asset, bytes(reading)) for asset, reading in zip(assets, readings, strict=True)]


def _asset_of(reading: bytes | msgspec.Raw) -> str:
    try:
        asset = _ASSET.decode(reading).asset
    except msgspec.ValidationError:
        return _NO_NAME
    return DEFAULT_ASSET if asset is None else str(asset)


_ASSET = msgspec.json.Decoder(_Named)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
