"""Limits of its own for each asset: its first readings are scored in silence, and their scores give its threshold.

Machines of one kind differ so much that a limit from another one is useless.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge_agent.bundle import Threshold
from edge_agent.stream.threshold import threshold_from

__all__ = ["Commission", "CommissionRecord"]

MIN_READINGS = 30


class CommissionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How far one asset's commissioning has come."""

    scores: bytes = b""
    """Float32 scores so far; empty once the threshold is set."""
    threshold: Threshold | None = None


class Commission:
    """The commissioning of one stream.

    Args:
        readings: scores that are collected for each asset; at least `MIN_READINGS`.
        false_alarm_rate: that the threshold is made for.
    """

    def __init__(self, readings: int, false_alarm_rate: float) -> None:
        self._readings = readings
        self._rate = false_alarm_rate
        self._collected: dict[str, list[float]] = {}
        self._thresholds: dict[str, Threshold] = {}

    def threshold(self, asset: str) -> Threshold | None:
        """An asset's own limits; None while it is being commissioned."""
        return self._thresholds.get(asset)

    def collect(self, asset: str, score: float) -> None:
        """One more score of an asset that has no threshold yet; with the last one it gets it."""
        if not np.isfinite(score):
            return
        scores = self._collected.setdefault(asset, [])
        scores.append(score)
        if len(scores) >= self._readings:
            self._thresholds[asset] = threshold_from(np.array(scores), self._rate)
            del self._collected[asset]

    def restart(self, asset: str | None) -> None:
        """Commission one asset, or all, anew."""
        for known in (self._collected, self._thresholds):
            if asset is None:
                known.clear()
            else:
                known.pop(asset, None)

    def assets(self) -> set[str]:
        """Assets that are being commissioned, or were."""
        return {*self._collected, *self._thresholds}

    def dump(self, asset: str) -> CommissionRecord:
        """For the journal."""
        threshold = self._thresholds.get(asset)
        scores = np.array(self._collected.get(asset, []), dtype=np.float32).tobytes()
        return CommissionRecord(scores=scores, threshold=threshold)

    def restore(self, asset: str, record: CommissionRecord) -> None:
        """Put back what `dump` gave."""
        if record.threshold is not None:
            self._thresholds[asset] = record.threshold
        elif record.scores:
            self._collected[asset] = np.frombuffer(record.scores, dtype=np.float32).tolist()

    def describe(self) -> dict[str, object]:
        """For health: how many assets are ready, how far the others are, and the range of limits."""
        limits = [threshold.alarm for threshold in self._thresholds.values()]
        return {
            "ready": len(limits),
            "collecting": {asset: len(scores) for asset, scores in sorted(self._collected.items())[:20]},
            "of": self._readings,
            "alarm_min": min(limits, default=None),
            "alarm_max": max(limits, default=None),
        }
