"""What is counted and measured while the agent runs, for its health message."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Counters", "Latency", "memory_bytes"]

_LATENCIES_KEPT = 512


@dataclass(slots=True)
class Counters:
    """What happened to the readings of one stream since the agent started."""

    received: int = 0
    """Messages."""
    repeated: int = 0
    """Messages that had been scored before and came again."""
    readings: int = 0
    """Readings in the good messages."""
    scored: int = 0
    """Windows that got a score; at window 1 and stride 1, readings."""
    not_finite: int = 0
    """Scores that were no number; they change no alarm."""
    at_limit: int = 0
    """Windows whose score reached the limit."""
    raised: int = 0
    updated: int = 0
    cleared: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Messages that could not be used, by reason."""

    def count_event(self, kind: str) -> None:
        """One event of an alert."""
        if kind in ("raise", "flapping"):
            self.raised += 1
        elif kind == "update":
            self.updated += 1
        else:
            self.cleared += 1

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        return {
            "received": self.received,
            "repeated": self.repeated,
            "readings": self.readings,
            "scored": self.scored,
            "not_finite": self.not_finite,
            "raised": self.raised,
            "updated": self.updated,
            "cleared": self.cleared,
            "rejected": dict(self.rejected),
        }


class Latency:
    """Time from taking a batch to its commit, over the last batches."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self._count = 0
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One batch took this long."""
        self._seconds.append(seconds)
        self._count += 1
        self._sum_s += seconds

    def describe(self) -> dict[str, float | None]:
        """Median and 99th percentile, milliseconds, None before the first batch; and of all batches number and sum."""
        ordered = sorted(self._seconds)
        count = len(ordered)
        return {
            "p50_ms": round(ordered[count // 2] * 1e3, 3) if ordered else None,
            "p99_ms": round(ordered[int(count * 0.99)] * 1e3, 3) if ordered else None,
            "count": self._count,
            "sum_s": round(self._sum_s, 6),
        }


def memory_bytes() -> int | None:
    """This process's share of the memory (PSS), bytes; None where the kernel does not tell."""
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None
