"""Memory, file descriptors and threads of a process over time, and its signs of life."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

__all__ = ["Manager", "Vitals"]


@dataclass
class Vitals:
    """Memory, file descriptors and threads of a process, sampled by a thread."""

    pid: int
    pss_kib: list[float] = field(default_factory=list)
    own_kib: list[float] = field(default_factory=list)
    """The anonymous part of the PSS: the other part, of libraries, changes with the processes that share them."""
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self, interval_s: float) -> None:
        """Sample until stopped."""
        while not self.stopped.wait(interval_s):
            process = Path(f"/proc/{self.pid}")
            rollup = (process / "smaps_rollup").read_text(encoding="ascii")
            self.pss_kib.append(float(rollup.partition("Pss:")[2].split()[0]))
            self.own_kib.append(float(rollup.partition("Pss_Anon:")[2].split()[0]))
            self.files.append(sum(1 for file in (process / "fd").iterdir() if _stays(file)))
            self.threads.append(len(list((process / "task").iterdir())))

    def slope_kib(self) -> float:
        """Growth of the memory from the first quarter's end to the end: Theil and Sen's line, which no peak bends."""
        samples = self.own_kib[len(self.own_kib) // 4 :]
        step = max(1, len(samples) // 300)
        thin = samples[::step]
        slopes = [(b - a) / (j - i) for i, a in enumerate(thin) for j, b in enumerate(thin[i + 1 :], start=i + 1)]
        return statistics.median(slopes) * len(thin)

    def noise_kib(self) -> float:
        """How far samples lie from their median, as a standard deviation that peaks do not widen."""
        samples = self.own_kib[len(self.own_kib) // 4 :]
        middle = statistics.median(samples)
        return 1.4826 * statistics.median([abs(sample - middle) for sample in samples])


def _stays(file: Path) -> bool:
    """False for what the process reads of itself for a health message, which is open for milliseconds."""
    try:
        return not str(file.readlink()).startswith("/proc/")
    except FileNotFoundError:  # closed since it was listed
        return False


class Manager:
    """The service manager's end of the watchdog."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.fed: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._thread = threading.Thread(target=self._hear, daemon=True)

    def _hear(self) -> None:
        while message := self._socket.recv(1000):
            if message == b"WATCHDOG=1":
                self.fed.append(time.monotonic())

    def longest_pause_s(self) -> float:
        """Between two signs of life, up to now."""
        fed = [*self.fed, time.monotonic()]
        return max(after - before for before, after in pairwise(fed))

    def __enter__(self) -> Manager:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join(10)
        self._socket.close()
