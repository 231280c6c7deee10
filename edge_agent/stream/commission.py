"""Limits of its own for each asset: its first readings are scored in silence, and their scores give its threshold.

Machines of one kind differ so much that a limit from another one is useless.
"""

from __future__ import annotations

import logging
import math
from heapq import nlargest

import msgspec
import numpy as np

from edge_agent.bundle import Threshold
from edge_agent.stream.threshold import threshold_from

__all__ = ["MIN_READINGS", "Commission", "CommissionRecord", "Commissioned"]

log = logging.getLogger(__name__)

MIN_READINGS = 30
_DOUBTFUL_SHARE = 0.1
"""Where more of the scores reach the bundle's limit, the machine differs much from those that the model knows, or it
was not healthy."""
_LIFTED = 5.0
"""A limit that a hundredth of its scores lift by this factor comes from them alone. In 300 draws of 100 exponential
scores each, less than one in 100 were lifted by more than 2.3."""
_SHOWN = 20


class CommissionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How far one asset's commissioning has come."""

    scores: bytes = b""
    """Float32 scores so far; empty once the threshold is set."""
    threshold: Threshold | None = None
    over_bundle: float = 0.0
    without_peaks: float = math.inf
    """See `Commissioned`."""


class Commissioned(msgspec.Struct, frozen=True):
    """What an asset was given."""

    threshold: Threshold
    over_bundle: float = 0.0
    """Share of the scores it was made from that reach the bundle's own alarm limit, 0 to 1."""
    without_peaks: float = math.inf
    """The alarm limit that there would be without the highest hundredth of them, where that is far lower; else inf."""

    def doubts(self) -> list[str]:
        """Why somebody should look if the machine was healthy, in words."""
        found: list[str] = []
        if self.over_bundle > _DOUBTFUL_SHARE:
            found.append(f"{self.over_bundle:.0%} of the scores that its limit was made of reach the bundle's limit")
        if self.without_peaks < self.threshold.alarm:
            found.append(f"without the highest hundredth of its scores its limit would be {self.without_peaks:.4g}")
        return found

    def tell(self, stream: str, asset: str, bundle: Threshold) -> None:
        """Into the log: the limits beside the bundle's, and every doubt."""
        limits = (self.threshold.alarm, self.threshold.clear, bundle.alarm)
        log.info("commissioned stream=%s asset=%s alarm=%.4g clear=%.4g bundle_alarm=%.4g", stream, asset, *limits)
        for doubt in self.doubts():
            log.warning(
                "asset may not have been healthy stream=%s asset=%s: %s; if that is not how it should be, put it right "
                "and recommission it",
                stream,
                asset,
                doubt,
            )


class Commission:
    """The commissioning of one stream.

    Args:
        readings: scores that are collected for each asset; at least `MIN_READINGS`.
        false_alarm_rate: that the threshold is made for.
        bundle: the bundle's limits.
    """

    def __init__(self, readings: int, false_alarm_rate: float, bundle: Threshold) -> None:
        self._readings = readings
        self._rate = false_alarm_rate
        self._bundle = bundle
        self._collected: dict[str, list[float]] = {}
        self._ready: dict[str, Commissioned] = {}

    def threshold(self, asset: str) -> Threshold | None:
        """An asset's own limits; None while it is being commissioned."""
        ready = self._ready.get(asset)
        return None if ready is None else ready.threshold

    def collect(self, asset: str, score: float) -> Commissioned | None:
        """One more score of an asset that has no threshold yet; with the last one it gets it, which is returned."""
        if not math.isfinite(score):
            return None
        scores = self._collected.setdefault(asset, [])
        scores.append(score)
        if len(scores) < self._readings:
            return None
        del self._collected[asset]
        found = np.array(scores)
        over_bundle = float((found >= self._bundle.alarm).mean())
        # A machine that stood still all the time, or a sensor that does not work, says nothing about what is normal.
        says_nothing = found.min() == found.max() < self._bundle.alarm
        own = self._bundle if says_nothing else threshold_from(found, self._rate, above_ties=True)
        rest = np.sort(found)[: len(found) - max(1, len(found) // 100)]
        without, middle = threshold_from(rest, self._rate, above_ties=True).alarm, float(np.median(found))
        is_lifted = not says_nothing and own.alarm - middle > _LIFTED * (without - middle)
        self._ready[asset] = Commissioned(own, over_bundle, without if is_lifted else math.inf)
        return self._ready[asset]

    def restart(self, asset: str | None) -> None:
        """Commission one asset, or all, anew."""
        for name in self.assets() if asset is None else (asset,):
            self._collected.pop(name, None)
            self._ready.pop(name, None)

    def assets(self) -> set[str]:
        """Assets that are being commissioned, or were."""
        return {*self._collected, *self._ready}

    def dump(self, asset: str) -> CommissionRecord:
        """For the journal."""
        ready = self._ready.get(asset)
        if ready is not None:
            return CommissionRecord(
                threshold=ready.threshold, over_bundle=ready.over_bundle, without_peaks=ready.without_peaks
            )
        return CommissionRecord(scores=np.array(self._collected.get(asset, []), dtype=np.float32).tobytes())

    def restore(self, asset: str, record: CommissionRecord) -> None:
        """Put back what `dump` gave."""
        if record.threshold is not None:
            self._ready[asset] = Commissioned(record.threshold, record.over_bundle, record.without_peaks)
        elif record.scores:
            self._collected[asset] = np.frombuffer(record.scores, dtype=np.float32).tolist()

    def describe(self) -> dict[str, object]:
        """For health: how many assets are ready, how far others are, the highest limits, and those to look at.

        There may be thousands of assets, so of each list only the first are told.
        """
        limits = {asset: ready.threshold.alarm for asset, ready in self._ready.items()}
        doubtful = {asset: ready for asset, ready in self._ready.items() if ready.doubts()}
        return {
            "ready": len(limits),
            "collecting": {asset: len(scores) for asset, scores in sorted(self._collected.items())[:_SHOWN]},
            "of": self._readings,
            "alarm_min": min(limits.values(), default=None),
            "alarm_max": max(limits.values(), default=None),
            "limits": _highest(limits),
            "doubtful": len(doubtful),
            "over_bundle": _highest({asset: ready.over_bundle for asset, ready in doubtful.items()}),
        }


def _highest(numbers: dict[str, float]) -> dict[str, float]:
    return {asset: numbers[asset] for asset in nlargest(_SHOWN, numbers, key=numbers.__getitem__)}
