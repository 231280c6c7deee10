"""Gives back the memory that only loading a model needed.

A runtime registers thousands of operators and optimises a graph when a model is loaded, and then scores with a small
part of its library. The pages that were touched once stay in the process until the kernel is short of memory, and count
as the agent's: 26 of 71 MB with ONNX Runtime 1.24 (docs/benchmarks.md). What is still needed comes back by itself,
from the kernel's cache of files or from the disk.

Threads go on meanwhile, so an address that was looked up may be somebody else's when its pages are dropped. Only pages
of which that cannot happen are taken: those that no program may write, of libraries that nobody can unload any more.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge_agent.engine.libraries import kept_code

__all__ = ["give_back_load_memory"]

log = logging.getLogger(__name__)


class _Mapping(NamedTuple):
    """One piece of a file in this process's memory."""

    start: int
    end: int
    kept_bytes: int
    """Of its pages, those that are in memory for us."""


def give_back_load_memory() -> int:
    """Return free heap to the kernel, and let go of unchanged pages of libraries. May be called on any thread.

    Nothing is lost by it, whatever other threads load, unload, map or write meanwhile.

    Returns:
        Bytes of library pages let go of; 0 where this system does not tell which are unchanged.
    """
    try:
        import ctypes

        libc, dont_need = ctypes.CDLL(None), mmap.MADV_DONTNEED
        # In this order: what is unchanged is looked up once all of it is there to stay.
        code = kept_code()
        maps = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    except (ImportError, AttributeError, OSError):  # a Python without ctypes; not Linux; no /proc
        return 0
    with suppress(AttributeError):  # musl has none, and gives memory back at once
        libc.malloc_trim(ctypes.c_size_t(0))
    given_back = 0
    for mapping in _unchanged(maps):
        if not any(start <= mapping.start and mapping.end <= end for start, end in code):
            continue
        size = ctypes.c_size_t(mapping.end - mapping.start)
        if libc.madvise(ctypes.c_void_p(mapping.start), size, ctypes.c_int(dont_need)) == 0:
            given_back += mapping.kept_bytes
    log.debug("memory of loading given back bytes=%d", given_back)
    return given_back


def _unchanged(maps: str) -> Iterator[_Mapping]:
    """Pieces of files that cannot be written and none of whose pages is our own, so that the file has them all.

    The second matters as much as the first: the linker writes addresses into pages that it then makes read-only. Such
    a page may be in the swap, where it is no longer counted as anonymous and would be dropped all the same.

    Args:
        maps: text of /proc/self/smaps.
    """
    where, kept_bytes, own = None, 0, False
    for line in maps.splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            is_file = len(values) > 4 and values[4].startswith("/")
            where = name if is_file and "w" not in values[0] and values[0].endswith("p") else None
        elif name == "Rss:":
            kept_bytes = int(values[0]) * 1024
        elif name == "Anonymous:":
            own = values[0] != "0"
        elif name == "Swap:" and where is not None and kept_bytes and not own and values[0] == "0":
            start, _, end = where.partition("-")
            yield _Mapping(int(start, 16), int(end, 16), kept_bytes)
