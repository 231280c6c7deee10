"""Where the read-only parts of the libraries are that this process will never unload. Linux only."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

__all__ = ["kept_code"]

_PT_LOAD, _PF_W = 1, 2
_MAIN_PROGRAM = b""
"""The loader's name for it; it cannot be unloaded."""


class _Segment(ctypes.Structure):
    """Elf64_Phdr."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("file_bytes", ctypes.c_uint64),
        ("memory_bytes", ctypes.c_uint64),
        ("alignment", ctypes.c_uint64),
    )


class _Library(ctypes.Structure):
    """The part of dl_phdr_info that every C library has."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("segment_count", ctypes.c_uint16),
    )


def kept_code() -> list[tuple[int, int]]:
    """Pin every library that is loaded, and give the addresses of their read-only segments, start and end.

    A pinned library stays until the process ends, and the loader has done with it: pinning waits for a load that is
    under way on another thread, so what it had to write, it has written. What it makes read-only after writing lies
    in writable segments. So these addresses belong to these files for good. A file that is merely mapped is no
    library and has none, and the same file mapped a second time lies elsewhere.

    Raises:
        AttributeError: this system has no such loader.
    """
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return []  # other structures; such a device has no runtime either
    loader = ctypes.CDLL(None)
    loader.dlopen.restype = ctypes.c_void_p
    loader.dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
    loader.dlclose.argtypes = (ctypes.c_void_p,)
    how = os.RTLD_LAZY | os.RTLD_NOLOAD | os.RTLD_NODELETE
    pinned = {_MAIN_PROGRAM}
    for name, _ in _loaded():
        # Unloaded since, or not a file, as the kernel's own: then it is not pinned, and not looked at again.
        handle = loader.dlopen(name, how) if name else None
        if handle:
            loader.dlclose(handle)  # the flag stays
            pinned.add(name)
    # Only now: a library of that name is in this process once, and it is the one that was pinned.
    return [piece for name, pieces in _loaded() if name in pinned for piece in pieces]


def _loaded() -> list[tuple[bytes, list[tuple[int, int]]]]:
    """Every loaded library with the addresses of its read-only segments."""
    found: list[tuple[bytes, list[tuple[int, int]]]] = []

    def note(library: Any, _size: int, _data: int | None) -> int:
        info = library.contents
        segments = (info.segments[number] for number in range(info.segment_count))
        pieces = [
            _pages(info.base + segment.address, segment.memory_bytes)
            for segment in segments
            if segment.kind == _PT_LOAD and not segment.flags & _PF_W
        ]
        found.append((info.name or b"", pieces))
        return 0

    # The loader's lock is held while this is called. Who wants the lock may hold the interpreter's (an import does), so
    # that one must not be let go of and waited for here.
    callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)
    ctypes.PyDLL(None).dl_iterate_phdr(callback(note), None)
    return found


def _pages(start: int, size: int) -> tuple[int, int]:
    return start // mmap.PAGESIZE * mmap.PAGESIZE, -(-(start + size) // mmap.PAGESIZE) * mmap.PAGESIZE
