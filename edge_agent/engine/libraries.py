"""Finds the addresses of the read-only parts of all libraries, after pinning the libraries. Linux only."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

__all__ = ["kept_code"]

_PT_LOAD, _PF_W = 1, 2
_MAIN_PROGRAM = b""
"""The loader's name of the main program, which cannot be unloaded."""
_LONG_S = 0.1
"""Many times as long as the block of `_unasked` takes, and short for whoever waits meanwhile."""
_one_at_a_time = Lock()


class _Segment(ctypes.Structure):
    """The C structure Elf64_Phdr."""

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
    """Pin every loaded library, and return the (start, end) addresses of the libraries' read-only segments.

    A pinned library stays loaded until the process ends. The loader has finished writing to it, because pinning waits
    for a load on another thread to end; pages that the loader makes read-only after writing are in writable segments.
    So the returned addresses belong to the libraries' files until the process ends. A file that is mapped but not
    loaded as a library is not included, and a second mapping of a library's file has other addresses.

    Returns:
        Page-aligned addresses; empty if the process is not a 64-bit one.

    Raises:
        AttributeError: this system has no such loader.
    """
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return []  # a 32-bit process has other structures, and no runtime
    loader = ctypes.CDLL(None)
    loader.dlopen.restype = ctypes.c_void_p
    loader.dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
    loader.dlclose.argtypes = (ctypes.c_void_p,)
    how = os.RTLD_LAZY | os.RTLD_NOLOAD | os.RTLD_NODELETE
    pinned = {_MAIN_PROGRAM}
    for name, _ in _loaded():
        # No handle: the library was unloaded since, or is not a file, like the kernel's vDSO. Such a one is left out.
        handle = loader.dlopen(name, how) if name else None
        if handle:
            loader.dlclose(handle)  # RTLD_NODELETE stays in force
            pinned.add(name)
    # Addresses are read after pinning: from then on, a name stands for the one library that was pinned.
    return [piece for name, pieces in _loaded() if name in pinned for piece in pieces]


def _loaded() -> list[tuple[bytes, list[tuple[int, int]]]]:
    """The name of every loaded library, with the (start, end) addresses of its read-only segments."""
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

    # The loader's lock is held during the callback. A thread that waits for that lock may hold the interpreter's lock
    # (an import does), so the callback must never release and wait for the latter: PYFUNCTYPE and PyDLL keep it.
    callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)
    with _unasked():
        ctypes.PyDLL(None).dl_iterate_phdr(callback(note), None)
    return found


@contextmanager
def _unasked() -> Iterator[None]:
    """A block of milliseconds in which no other thread asks for the interpreter's lock.

    CPython gives it up between two lines when another thread has waited for a whole switch interval, with nobody else
    getting it. So the interval is long for a while, and whoever waits by the short one has asked before the block.
    """
    with _one_at_a_time:
        usual_s = sys.getswitchinterval()
        is_collecting = gc.isenabled()
        sys.setswitchinterval(_LONG_S)
        try:
            time.sleep(2 * usual_s)  # who waits by the short interval asks within that time
            gc.disable()  # what it ends may wait for anything
            yield
        finally:
            sys.setswitchinterval(usual_s)
            if is_collecting:
                gc.enable()


def _pages(start: int, size: int) -> tuple[int, int]:
    return start // mmap.PAGESIZE * mmap.PAGESIZE, -(-(start + size) // mmap.PAGESIZE) * mmap.PAGESIZE
