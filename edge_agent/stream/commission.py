"""Commissioning: the scores of an asset's first readings raise no alert, and give the asset limits of its own.

Machines of one kind differ so much that a limit from another machine is useless.
"""

from __future__ import annotations

import logging
import math
from array import array
from heapq import nlargest

import msgspec
import numpy as np

from edge_agent.bundle import Manifest, Threshold
from edge_agent.stream.alarm import Alarm
from edge_agent.stream.settings import CommissionSettings
from edge_agent.stream.threshold import threshold_from

__all__ = ["MIN_READINGS", "Commission", "Commissioned", "make_commission"]

log = logging.getLogger(__name__)

MIN_READINGS = 30
"""Fewest scores that give limits."""
_DOUBTFUL_SHARE = 0.1
"""If a larger share of the scores reaches the bundle's limit, the machine differs much from those that the model was
trained on, or it was not healthy."""
_LIFTED = 5.0
"""If the highest hundredth of the scores multiplies the limit's distance from the median by more than this, the limit
comes from that hundredth alone. In 300 draws of 100 exponential scores each, the factor was above 2.3 in less than one
of 100."""
_SHOWN = 20
"""Most assets in each list of a description."""
_UNKEPT = 64
"""1/64 of an asset's scores may be missing in the journal: if all scores were written with each reading, the scores of
one day would take 30 GB."""


class Commissioned(msgspec.Struct, frozen=True):
    """The result of commissioning one asset; the journal keeps it."""

    threshold: Threshold
    """The asset's limits."""
    over_bundle: float = 0.0
    """Share of the collected scores that reach the bundle's own alarm limit, 0 to 1."""
    without_peaks: float = math.inf
    """The alarm limit without the highest hundredth of the scores, if that limit is far lower; else inf."""

    def doubts(self) -> list[str]:
        """Reasons to check if the machine was healthy, as sentences for the log; empty when there are none."""
        found: list[str] = []
        if self.over_bundle > _DOUBTFUL_SHARE:
            found.append(f"{self.over_bundle:.0%} of the scores that its limit was made of reach the bundle's limit")
        if self.without_peaks < self.threshold.alarm:
            found.append(f"without the highest hundredth of its scores its limit would be {self.without_peaks:.4g}")
        return found

    def tell(self, stream: str, asset: str, *, bundle: Threshold, alarm: Alarm) -> None:
        """Log the limits beside the bundle's alarm limit, and a warning for each doubt and for a `warn` without effect.

        Args:
            stream: its name.
            asset: its name.
            bundle: the bundle's limits.
            alarm: of the stream.
        """
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
        if alarm.has_levels and alarm.lowest_limit(self.threshold) == self.threshold.alarm:
            log.warning("warn is not below the asset's limit, no effect stream=%s asset=%s", stream, asset)


class Commission:
    """The commissioning of one stream.

    Args:
        readings: number of scores that are collected for each asset; at least `MIN_READINGS`.
        false_alarm_rate: share of normal windows that may reach the limit, above 0 and below 0.5.
        bundle: the bundle's limits.
    """

    def __init__(self, readings: int, false_alarm_rate: float, bundle: Threshold) -> None:
        self._readings = readings
        self._rate = false_alarm_rate
        self._bundle = bundle
        self._collected: dict[str, array[float]] = {}
        """Scores as float32, which they come as; a list would take eight times the memory."""
        self._ready: dict[str, Commissioned] = {}
        self._kept: dict[str, int] = {}
        """For each asset, the number of its scores in the journal."""

    def threshold(self, asset: str) -> Threshold | None:
        """An asset's own limits; None until it is commissioned."""
        ready = self._ready.get(asset)
        return None if ready is None else ready.threshold

    def collect(self, asset: str, score: float) -> Commissioned | None:
        """Add a score of an asset that has no limits yet.

        Args:
            asset: the asset's name.
            score: higher is more anomalous; a NaN or infinite score is not collected.

        Returns:
            The asset's limits, with the last score that was needed; None before.
        """
        if not math.isfinite(score):
            return None
        scores = self._collected.setdefault(asset, array("f"))
        scores.append(score)
        if len(scores) < self._readings:
            return None
        del self._collected[asset]
        found = np.array(scores, dtype=np.float64)
        over_bundle = float((found >= self._bundle.alarm).mean())
        # Scores that are all equal come from a machine that stood still or a broken sensor: they cannot set a limit.
        says_nothing = found.min() == found.max() < self._bundle.alarm
        own = self._bundle if says_nothing else threshold_from(found, self._rate, above_ties=True)
        rest = np.sort(found)[: len(found) - max(1, len(found) // 100)]
        without, middle = threshold_from(rest, self._rate, above_ties=True).alarm, float(np.median(found))
        is_lifted = not says_nothing and own.alarm - middle > _LIFTED * (without - middle)
        self._ready[asset] = Commissioned(own, over_bundle, without if is_lifted else math.inf)
        return self._ready[asset]

    def restart(self, asset: str | None) -> None:
        """Forget the scores and limits of one asset, or of all with None, so that commissioning begins again."""
        for name in self.assets() if asset is None else (asset,):
            for known in (self._collected, self._ready, self._kept):
                known.pop(name, None)

    def assets(self) -> set[str]:
        """All assets that are being commissioned, or have been."""
        return {*self._collected, *self._ready}

    @property
    def ready_assets(self) -> int:
        """How many assets have limits of their own."""
        return len(self._ready)

    def ready(self, asset: str) -> Commissioned | None:
        """The result for an asset; None until it is commissioned."""
        return self._ready.get(asset)

    def restore(self, asset: str, ready: Commissioned) -> None:
        """Put back a result from `ready`, and drop collected scores of the asset, which are no longer needed."""
        self._ready[asset] = ready
        self._collected.pop(asset, None)

    def unkept(self, asset: str) -> int:
        """The number of an asset's scores that the journal lacks or has in excess."""
        return abs(len(self._collected.get(asset, ())) - self._kept.get(asset, 0))

    def is_due(self, asset: str) -> bool:
        """True if an asset's scores should be written to the journal now."""
        return self.unkept(asset) > len(self._collected.get(asset, ())) // _UNKEPT

    def dump_scores(self, asset: str) -> bytes:
        """An asset's collected scores as float32 bytes, for the journal; the caller must write them there."""
        scores = self._collected.get(asset, array("f"))
        self._kept[asset] = len(scores)
        return scores.tobytes()

    def restore_scores(self, asset: str, dumped: bytes) -> None:
        """Put back the scores from `dump_scores`, unless the asset already has its limits.

        Raises:
            ValueError: `dumped` is not a whole number of float32 values.
        """
        scores = array("f", dumped)
        self._kept[asset] = len(scores)
        if scores and asset not in self._ready:
            self._collected[asset] = scores

    def describe(self) -> dict[str, object]:
        """For the health message: the assets that are ready or collecting, the highest limits, and the doubtful assets.

        There may be thousands of assets, so each list has at most 20.
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


def make_commission(settings: CommissionSettings, manifest: Manifest) -> Commission | None:
    """Make the commissioning of a stream; None if all assets use the bundle's limits."""
    if not settings.readings:
        return None
    return Commission(settings.readings, manifest.false_alarm_rate, manifest.threshold)


def _highest(numbers: dict[str, float]) -> dict[str, float]:
    return {asset: numbers[asset] for asset in nlargest(_SHOWN, numbers, key=numbers.__getitem__)}
