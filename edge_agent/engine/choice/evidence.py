"""The results of proving and timing the providers of this device."""

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
    """One provider with one number of threads, and its results with one bundle on this device."""

    provider: Provider
    threads: int
    """Threads of one inference."""
    verdict: Verdict
    reason: str
    """Why the candidate is not qualified, or how close its scores are to the golden ones."""
    deviation: float | None = None
    """As `golden_vectors.golden_deviation` gives it; None if the golden scores were not met."""
    load_ms: float | None = None
    """Time to load the model, milliseconds; None if the model did not load."""
    memory_bytes: int = 0
    """Resident memory of a process that has scored every batch size; 0 if not timed."""
    placement: dict[str, int] | None = None
    """Number of the model's nodes by ONNX Runtime's name of their provider; None if the runtime does not report it."""
    samples_us: dict[int, list[float]] = {}
    """Time of one inference by batch size (`CHANGING` too), one for each round of the measurement, microseconds."""
    estimated: tuple[int, ...] = ()
    """Batch sizes (`CHANGING` too) that take too long on this device, so that their times follow from smaller ones."""

    @property
    def name(self) -> str:
        """The provider's name, with the number of threads if more than one, such as "cpu x2"."""
        return self.provider.name if self.threads == 1 else f"{self.provider.name} x{self.threads}"

    @property
    def qualified(self) -> bool:
        """True if the candidate gives the golden scores and may run."""
        return self.verdict is Verdict.QUALIFIED

    @property
    def rounds(self) -> int:
        """Number of complete rounds that the candidate was timed in."""
        return min((len(self.samples_us.get(size, ())) for size in (*BATCH_SIZES, CHANGING)), default=0)

    def batch_us(self) -> dict[int, float]:
        """Time of one inference by batch size, microseconds: the median of the quicker half of the rounds.

        Empty if the candidate was not timed.
        """
        return {size: round(statistics.median(self._quicker(size, None)), 1) for size in BATCH_SIZES if self.rounds}

    def change_us(self) -> float:
        """Time that a change of the batch size adds, microseconds; 0.0 if the candidate was not timed."""
        if not self.rounds:
            return 0.0
        changing, steady = (statistics.median(self._quicker(size, None)) for size in (CHANGING, 8))
        return round(max(0.0, changing - steady), 1)

    def costs_us(self, mix: BatchMix, rounds: int | None = None) -> list[float]:
        """Mean time of a batch of a mix, microseconds, for each of the quicker half of the rounds, quickest first.

        Disturbances only add time, and a shared machine is slow for tens of milliseconds at a time, so the slower half
        of the rounds shows nothing about the provider.

        Args:
            mix: the batch sizes.
            rounds: use only so many first rounds, such as another candidate was timed in; None uses all.
        """
        quicker = {size: self._quicker(size, rounds) for size in (*BATCH_SIZES, CHANGING)}
        return [
            mix.cost({size: quicker[size][i] for size in BATCH_SIZES}, max(0.0, quicker[CHANGING][i] - quicker[8][i]))
            for i in range(len(quicker[CHANGING]))
        ]

    def describe(self) -> dict[str, Any]:
        """The candidate for reports and the health message."""
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
            "estimated": [size for size in self.estimated if size in BATCH_SIZES],
            "change_us": self.change_us() if self.rounds else None,
        }

    def _quicker(self, size: int, rounds: int | None) -> list[float]:
        """The quicker half of the first rounds at one batch size, in order."""
        count = min(self.rounds, rounds or self.rounds)
        return sorted(self.samples_us[size][:count])[: (count + 1) // 2]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The results of all providers of this device for one bundle."""

    candidates: list[Candidate]
    """All that were tried, qualified or not."""
    absent: list[Absent]
    """Known providers and plug-ins that cannot be used on this device."""
    seconds: float
    """Time that proving and timing took, seconds."""
    measured_s: float = 0.0
    """Time of the measurement's end, epoch seconds; 0.0 if not finished."""
    complete: bool = True
    """False if measuring goes on or was ended early, so that no candidate is timed yet; or if the search for devices
    failed. In both cases there may be providers that were not tried."""
    blamed: dict[str, str] = {}
    """Providers that took the agent down after they were proven, with a description, oldest first. They may run, but
    come after all others."""
