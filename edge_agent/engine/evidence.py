"""What was found out about the providers of this device."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec

from edge_agent.engine.discovery import Absent
from edge_agent.engine.golden import Verdict
from edge_agent.engine.mix import BATCH_SIZES, Mix
from edge_agent.engine.probe import CHANGING
from edge_agent.engine.providers import Provider

__all__ = ["Candidate", "Evidence"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One provider with one number of threads, and what it did with one bundle on this device."""

    provider: Provider
    threads: int
    verdict: Verdict
    reason: str
    """Why it is not qualified, or how close it came to the golden scores."""
    deviation: float | None = None
    """As `bundle.golden_deviation` gives it."""
    load_ms: float | None = None
    memory_bytes: int = 0
    """Memory of a process that has scored every batch size; 0 when it was not timed."""
    placement: dict[str, int] | None = None
    """Nodes by the runtime's provider that took them; None where the runtime cannot tell."""
    samples_us: dict[int, list[float]] = {}
    """Time of one inference by batch size (`CHANGING` too), one for each round of the measurement, microseconds."""

    @property
    def name(self) -> str:
        """The provider, with its threads where there are more than one."""
        return self.provider.name if self.threads == 1 else f"{self.provider.name} x{self.threads}"

    @property
    def qualified(self) -> bool:
        """Whether it may run."""
        return self.verdict is Verdict.QUALIFIED

    @property
    def rounds(self) -> int:
        """Rounds that it was timed in."""
        return min((len(self.samples_us.get(size, ())) for size in (*BATCH_SIZES, CHANGING)), default=0)

    def batch_us(self) -> dict[int, float]:
        """Median time of one inference by batch size, microseconds."""
        return {size: round(statistics.median(self.samples_us[size]), 1) for size in BATCH_SIZES if self.rounds}

    def change_us(self) -> float:
        """What it costs when a batch has another size than the one before, microseconds."""
        return round(statistics.median(self._changes()), 1) if self.rounds else 0.0

    def costs_us(self, mix: Mix) -> list[float]:
        """Mean time of a batch of this mix in each round, microseconds."""
        changes = self._changes()
        return [
            mix.cost({size: self.samples_us[size][i] for size in BATCH_SIZES}, changes[i]) for i in range(self.rounds)
        ]

    def describe(self) -> dict[str, Any]:
        """For reports and the health message."""
        return {
            "provider": self.provider.name,
            "threads": self.threads,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "deviation": self.deviation,
            "load_ms": self.load_ms,
            "memory_bytes": self.memory_bytes or None,
            "placement": self.placement,
            "batch_us": {str(size): us for size, us in self.batch_us().items()},
            "change_us": self.change_us() if self.rounds else None,
        }

    def _changes(self) -> list[float]:
        pairs = zip(self.samples_us[CHANGING], self.samples_us[8], strict=False)
        return [max(0.0, changing - steady) for changing, steady in pairs]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found out about the providers of this device for one bundle."""

    candidates: list[Candidate]
    absent: list[Absent]
    """Known providers that are not here."""
    seconds: float
    """What it took to find out."""
    measured_s: float = 0.0
    """When, epoch seconds."""
