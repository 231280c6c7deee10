"""Zip archives and the arrays in them, from anybody: what a header claims is checked before memory is taken for it."""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT_BYTES", "LIMIT_VALUES", "Archive", "ArchiveError", "ArrayArchive", "ArrayHeader"]

LIMIT_BYTES = 1 << 31
"""Most text that a packed data file may unpack to. A packed file can be a thousandth of that, so its own size bounds
nothing. A year of readings, one a second, of eight channels and a time is 1.9 GB of text."""
LIMIT_VALUES = 300_000_000
"""Most values that it may unpack to, which are kept as float64. That year has 284 million."""
_DEFLATE_RATIO = 1032
"""The most that deflate reaches: two bits, one for a length and one for a distance, stand for 258 bytes."""
_DIRECTORY_LIMIT_BYTES = 16 << 20
"""A quarter of a million members. Python takes ten times the directory's size to open it."""
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES, _COMMENT_BYTES = 22, 56, 20, 0xFFFF
_HEADER_LIMIT_BYTES = 10_000
"""What numpy parses at most."""
_PIECE_BYTES = 1 << 20
_HASHED_FIRST_BYTES = 16 << 20
"""A larger member takes its memory only once it is known to be the right one, for which it is unpacked twice."""


class ArchiveError(Exception):
    """An archive or an array in it is not what its headers claim, or too large. The text does not name the file."""


class Archive:
    """An open zip file, of which members are read whose sizes can be true.

    Args:
        file: seekable.

    Raises:
        ArchiveError: it is too large, or members share their bytes.
        Exception: it is no zip file; zipfile and zlib have no common base for what they raise, here and below.
    """

    def __init__(self, file: BinaryIO) -> None:
        size_bytes = file.seek(0, io.SEEK_END)
        _check_directory(file, size_bytes)
        self._zip = zipfile.ZipFile(file)
        self.names = self._zip.namelist()
        if sum(info.compress_size for info in self._zip.infolist()) > size_bytes:
            raise ArchiveError("its members are larger than the archive")

    def info(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member.

        Raises:
            ArchiveError: the member is not there, or cannot have the size that its entry claims.
        """
        try:
            info = self._zip.getinfo(name)
        except KeyError as exc:
            raise ArchiveError(f"has no {name}") from exc
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"{name!r} is compressed in a way that is not read here; expected stored or deflated")
        most = info.compress_size * (_DEFLATE_RATIO if is_packed(info) else 1)
        if info.file_size > most:
            raise ArchiveError(f"{name!r} claims {info.file_size} bytes, expected at most {most} of what it packs")
        return info

    def open(self, name: str) -> BinaryIO:
        """A member as a stream. It ends where its entry says; the checksum is checked by who reads to the end."""
        stream: BinaryIO = self._zip.open(self.info(name))  # type: ignore[assignment]  # a BufferedIOBase is one
        return stream

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a member, up to a megabyte at a time.

        Raises:
            ArchiveError: it has fewer bytes than its entry claims.
        """
        left = self.info(name).file_size
        with self.open(name) as member:
            while piece := member.read(_PIECE_BYTES):
                left -= len(piece)
                yield piece
        if left:
            raise ArchiveError(f"{name!r} is {left} bytes shorter than it claims")

    def read(self, name: str, limit_bytes: int, sha256: str | None = None) -> bytes:
        """The content of a member.

        Args:
            name: of the member.
            limit_bytes: most that it may have.
            sha256: of the content, as the manifest has it; None where nobody knows it.

        Raises:
            ArchiveError: it is larger, or another one than the manifest says.
        """
        size = self.info(name).file_size
        if size > limit_bytes:
            raise ArchiveError(f"{name} would have {size} bytes, at most {limit_bytes} are read")
        if sha256 is not None and size > _HASHED_FIRST_BYTES:
            _check_hash(name, self.pieces(name), sha256)
        # A join would keep all pieces beside their sum.
        content = io.BytesIO()
        content.writelines(self.pieces(name))
        data = content.getvalue()
        if sha256 is not None:
            _check_hash(name, (data,), sha256)
        return data


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What an array in an archive is, and where its values begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    """True if the first axis is the one whose values are side by side."""
    start: int
    """Bytes before the values."""


class ArrayArchive:
    """The arrays of an `.npz`, none of which is a pickle.

    Args:
        file: seekable.
        limit_bytes: most that all arrays may take which are read and packed, counted as float64.

    Raises:
        ArchiveError: as for `Archive`.
        Exception: as for `Archive`.
    """

    def __init__(self, file: BinaryIO, *, limit_bytes: int = 8 * LIMIT_VALUES) -> None:
        self._archive = Archive(file)
        self._limit_bytes = self._left_bytes = limit_bytes
        self.names = [name.removesuffix(".npy") for name in self._archive.names if name.endswith(".npy")]

    def header(self, name: str) -> ArrayHeader:
        """What an array is, without its values.

        Raises:
            ArchiveError: it is not there, holds objects, or has not the size that its header claims.
        """
        info = self._archive.info(f"{name}.npy")
        with self._archive.open(info.filename) as member:
            header = _read_header(name, member)
        size = math.prod(header.shape) * header.dtype.itemsize
        if header.start + size != info.file_size:
            found = info.file_size - header.start
            raise ArchiveError(f"{name!r} is {header.dtype} {header.shape} in {found} bytes, expected {size}")
        return header

    def read(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            ArchiveError: as for `header`, or the arrays that were read are larger than the limit.
        """
        header, info = self.header(name), self._archive.info(f"{name}.npy")
        if is_packed(info):
            self._left_bytes -= max(info.file_size, 8 * math.prod(header.shape))
            if self._left_bytes < 0:
                limit = self._limit_bytes
                raise ArchiveError(f"{name!r} would unpack to more than {limit} bytes; store it unpacked, or split it")
        array = np.empty(header.shape, header.dtype, order="F" if header.fortran else "C")
        into, place = array.reshape(-1, order="A").view(np.uint8), -header.start
        for piece in self._archive.pieces(info.filename):
            begin = max(-place, 0)
            into[place + begin : place + len(piece)] = np.frombuffer(piece, np.uint8)[begin:]
            place += len(piece)
        _check_text(name, array)
        return array


def _check_hash(name: str, pieces: Iterable[bytes], want: str) -> None:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    if found.hexdigest() != want:
        raise ArchiveError(f"{name} differs from its manifest (sha256 {found.hexdigest():.12}, expected {want:.12})")


def is_packed(info: zipfile.ZipInfo) -> bool:
    """True if a member may unpack to more bytes than it has."""
    return info.compress_type != zipfile.ZIP_STORED


def _check_directory(file: BinaryIO, size_bytes: int) -> None:
    """Refuse a directory that would take much memory, which `zipfile` reads before it can be asked anything."""
    file.seek(max(0, size_bytes - _END_BYTES - _END64_BYTES - _LOCATOR_BYTES - _COMMENT_BYTES))
    tail = file.read()
    for end in re.finditer(b"PK\x05\x06", tail):
        (size,) = struct.unpack("<L", tail[end.start() + 12 : end.start() + 16].ljust(4, b"\0"))
        record = tail[max(0, end.start() - _LOCATOR_BYTES - _END64_BYTES) : end.start()]
        if record.startswith(b"PK\x06\x06"):
            (size,) = struct.unpack("<Q", record[40:48])
        if _DIRECTORY_LIMIT_BYTES < size <= size_bytes:
            raise ArchiveError(f"its directory has {size} bytes, at most {_DIRECTORY_LIMIT_BYTES} are read")


def _check_text(name: str, array: NDArray[Any]) -> None:
    """Refuse codes that no text has, which end in a SystemError where a text is made of them, or later in another."""
    if array.dtype.kind == "U" and array.size:
        codes = array.reshape(-1, order="A").view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if ((codes > 0x10FFFF) | (codes >> 11 == 0xD800 >> 11)).any():
            raise ArchiveError(f"{name!r} holds codes that are no text")


def _read_header(name: str, member: BinaryIO) -> ArrayHeader:
    start = member.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6:] not in (b"\1\0", b"\2\0"):
        raise ArchiveError(f"{name!r} is no array of .npy version 1 or 2")
    length = member.read(2 if start[6] == 1 else 4)
    size = int.from_bytes(length, "little")
    if size > _HEADER_LIMIT_BYTES:
        raise ArchiveError(f"{name!r} has a header of {size} bytes, at most {_HEADER_LIMIT_BYTES} are read")
    text = io.BytesIO(length + member.read(size))
    read = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(text)
    # numpy's parser raises what Python's tokenizer and its own checks do, and memory and recursion errors.
    except Exception as exc:
        raise ArchiveError(f"{name!r} has a header that is none ({type(exc).__name__})") from exc
    if dtype.hasobject or dtype.itemsize == 0 or dtype.fields is not None or dtype.subdtype is not None:
        raise ArchiveError(f"{name!r} is {dtype}, expected a plain array of numbers or texts")
    if not all(isinstance(size, int) and 0 <= size < 1 << 62 for size in shape):
        raise ArchiveError(f"{name!r} has shape {shape}")
    return ArrayHeader(dtype, shape, fortran, len(start) + len(length) + size)
