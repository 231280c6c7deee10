"""What was found out about the providers of this device."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec

from edge_agent.engine.choice.batch_mix import BATCH_SIZES, BatchMix
from edge_agent.engine.choice.discovery import Absent
from edge_agent.engine.choice.probe import CHANGING
from edge_agent.engine.golden import Verdict
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
        """Time of one inference by batch size, microseconds: the median of the quicker half of the rounds."""
        return {size: round(statistics.median(self._quicker(size, None)), 1) for size in BATCH_SIZES if self.rounds}

    def change_us(self) -> float:
        """What it costs when a batch has another size than the one before, microseconds."""
        if not self.rounds:
            return 0.0
        changing, steady = (statistics.median(self._quicker(size, None)) for size in (CHANGING, 8))
        return round(max(0.0, changing - steady), 1)

    def costs_us(self, mix: BatchMix, rounds: int | None = None) -> list[float]:
        """Mean time of a batch of this mix, microseconds, from the quickest to the middle of the rounds.

        Whatever disturbs only ever adds, and a shared machine is slow for tens of milliseconds at a time, so the slower
        half of the rounds says nothing about the provider.

        Args:
            mix: the batch sizes.
            rounds: take only the first rounds, as many as another candidate was timed in.
        """
        quicker = {size: self._quicker(size, rounds) for size in (*BATCH_SIZES, CHANGING)}
        return [
            mix.cost({size: quicker[size][i] for size in BATCH_SIZES}, max(0.0, quicker[CHANGING][i] - quicker[8][i]))
            for i in range(len(quicker[CHANGING]))
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

    def _quicker(self, size: int, rounds: int | None) -> list[float]:
        """The quicker half of the first rounds at one batch size, in order."""
        count = min(self.rounds, rounds or self.rounds)
        return sorted(self.samples_us[size][:count])[: (count + 1) // 2]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found out about the providers of this device for one bundle."""

    candidates: list[Candidate]
    absent: list[Absent]
    """Known providers that are not here."""
    seconds: float
    """What it took to find out."""
    measured_s: float = 0.0
    """When, epoch seconds."""
    complete: bool = True
    """Otherwise measuring goes on, or was ended: some were not tried, and nobody was timed."""
    blamed: dict[str, str] = {}
    """Providers that took the agent down after they were proven, with how. They may run, after all others."""
