"""Gives back the memory that only loading a model needed.

A runtime registers thousands of operators and optimises a graph when a model is loaded, and then scores with a small
part of its library. The pages that were touched once stay in the process until the kernel is short of memory, and count
as the agent's: 26 of 71 MB with ONNX Runtime 1.24 (docs/benchmarks.md). A dropped page that is needed again is loaded
again by the kernel, from its cache of files or from the disk.

Other threads run meanwhile, so an address may have another owner by the time its pages are dropped. Therefore only
pages are dropped whose owner cannot change: pages that are read-only, of libraries that cannot be unloaded any more.
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
    """One mapped piece of a file in this process's memory."""

    start: int
    end: int
    kept_bytes: int
    """Resident bytes of the piece."""


def give_back_load_memory() -> int:
    """Return free heap to the kernel, and drop unchanged pages of libraries. May be called on any thread.

    The call is safe while other threads load, unload, map or write.

    Returns:
        Bytes of library pages that were dropped; 0 where the system does not report which pages are unchanged.
    """
    try:
        import ctypes

        libc, dont_need = ctypes.CDLL(None), mmap.MADV_DONTNEED
        # In this order: the unchanged pages are looked up after all libraries are pinned.
        code = kept_code()
        maps = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    except (ImportError, AttributeError, OSError):  # a Python without ctypes; not Linux; no /proc
        return 0
    with suppress(AttributeError):  # musl has no malloc_trim, and returns free memory at once
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
    """Pieces of files that are read-only and have no private page, so that the file has all of their content.

    Read-only alone is not enough: the linker writes addresses into pages that it then makes read-only. Such a page may
    be in the swap, where it is no longer counted as anonymous, so pieces with swapped pages are left out too.

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
