"""Shared libraries that somebody has allowed by their hash, loaded as the very bytes that were hashed.

A path says nothing of what lies there when it is opened a second time. So a library is copied while it is hashed, into
memory that nobody can write to any more, and what the loader is given is that copy.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Literal

import msgspec

__all__ = ["Library", "LibraryError", "LibraryFacts", "look_anew", "look_at", "sealed", "this_architecture"]

_LIMIT_BYTES = 512 << 20
_PIECE_BYTES = 1 << 20
_HEADER_BYTES = 20
_SHARED_OBJECT = 3
_MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv64"}
"""`e_machine` of an ELF header to the name that we give it."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_sealed: dict[str, BinaryIO] = {}
"""By hash, the copies of this process. None is ever closed: the loader knows a library by its path, so a number of a
file that is used again would stand for the library that it stood for before: see
findings/glibc_takes_a_descriptor_for_a_library.sh."""
_one_at_a_time = Lock()


class LibraryError(Exception):
    """A library is missing, no library, another one than expected, or open to others. The text does not name it."""


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """A library that may be loaded."""

    path: str
    """Where it lies."""
    sha256: str
    """What it has to be."""
    guarded: bool = True
    """Nobody but its owner may be able to write to the file. False for one that a user names for a command of his own:
    files of Python packages are often open to their owner's group."""


class LibraryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    sha256: str
    architecture: str
    """Such as "x86-64" or "aarch64", by its ELF header."""


def look_at(path: Path) -> LibraryFacts:
    """Read a library, without loading it.

    Args:
        path: the file.

    Raises:
        LibraryError: it is missing, or no shared library for Linux.
    """
    found = hashlib.sha256()
    with _opened(path) as file:
        header = file.read(_HEADER_BYTES)
        architecture = _architecture(header)
        if int.from_bytes(header[16:18], _byte_order(header)) != _SHARED_OBJECT:
            raise LibraryError("is a program or an object file, and no shared library")
        found.update(header)
        while piece := file.read(_PIECE_BYTES):
            found.update(piece)
    return LibraryFacts(sha256=found.hexdigest(), architecture=architecture)


def this_architecture() -> str:
    """The architecture of this process, in the words of `LibraryFacts`; empty where it is none that we know.

    Not what the kernel says of its machine: a 64-bit one also runs programs of 32 bits.
    """
    try:
        with _opened(Path("/proc/self/exe")) as file:
            return _architecture(file.read(_HEADER_BYTES))
    except LibraryError:
        return ""


def sealed(library: Library) -> str:
    """Copy a library whose hash is the right one to where nobody can change it; at most once in a process.

    Args:
        library: to be loaded.

    Returns:
        A path of the copy for the loader, good until this process ends.

    Raises:
        LibraryError: the file is missing, has another hash, or may be written by others than its owner.
    """
    with _one_at_a_time:
        if library.sha256 not in _sealed:
            _sealed[library.sha256] = _copy(library)
        return f"/proc/self/fd/{_sealed[library.sha256].fileno()}"


def look_anew(library: Library) -> None:
    """See that the file is still the one that may be loaded, also where `sealed` has copied it already.

    Args:
        library: as for `sealed`.

    Raises:
        LibraryError: as `sealed`.
    """
    copy = _copy(library)
    with _one_at_a_time:
        if library.sha256 in _sealed:
            copy.close()
        else:
            _sealed[library.sha256] = copy


def _copy(library: Library) -> BinaryIO:
    try:
        copy = _nameless_file()
    except OSError as exc:
        raise LibraryError(f"cannot be copied into memory ({exc.strerror})") from exc
    try:
        found = hashlib.sha256()
        with _opened(Path(library.path)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if library.guarded and mode & _OTHERS_WRITE:
                raise LibraryError(
                    f"may be written by others than its owner (mode {stat.S_IMODE(mode):04o}); run: "
                    f"chmod go-w {library.path}"
                )
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
                copy.write(piece)
        if found.hexdigest() != library.sha256:
            raise LibraryError(f"is another file (sha256 {found.hexdigest()}, expected {library.sha256})")
        copy.flush()
        _seal(copy)
    except OSError as exc:
        copy.close()
        raise LibraryError(f"cannot be copied into memory ({exc.strerror})") from exc
    except LibraryError:
        copy.close()
        raise
    return copy


def _opened(path: Path) -> BinaryIO:
    """A regular file, opened for reading; a named pipe would be waited for."""
    try:
        # Windows has none of these pipes, and no such flag.
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except OSError as exc:
        raise LibraryError(f"cannot be read ({exc.strerror})") from exc
    about = os.fstat(file.fileno())
    if not stat.S_ISREG(about.st_mode) or about.st_size > _LIMIT_BYTES:
        file.close()
        raise LibraryError(f"is no regular file of at most {_LIMIT_BYTES >> 20} MiB")
    return file


def _nameless_file() -> BinaryIO:
    """A file that only this process has; in memory where Python was built for that."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edge-agent-library", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    return tempfile.TemporaryFile()


def _seal(copy: BinaryIO) -> None:
    """Let nobody write to it any more, not even this process."""
    if hasattr(os, "memfd_create"):
        import fcntl

        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(copy.fileno(), fcntl.F_ADD_SEALS, seals)


def _architecture(header: bytes) -> str:
    if len(header) < _HEADER_BYTES or header[:4] != b"\x7fELF":
        raise LibraryError("is no shared library for Linux (it has no ELF header)")
    machine = int.from_bytes(header[18:20], _byte_order(header))
    return _MACHINES.get(machine, f"machine-{machine}")


def _byte_order(header: bytes) -> Literal["big", "little"]:
    return "big" if header[5] == 2 else "little"
