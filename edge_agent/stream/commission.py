"""Limits of its own for each asset: its first readings are scored in silence, and their scores give its threshold.

Machines of one kind differ so much that a limit from another one is useless.
"""

from __future__ import annotations

import logging
import math
from heapq import nlargest

import msgspec
import numpy as np

from edge_agent.bundle import Manifest, Threshold
from edge_agent.stream.settings import CommissionSettings
from edge_agent.stream.threshold import threshold_from

__all__ = ["MIN_READINGS", "Commission", "Commissioned", "make_commission"]

log = logging.getLogger(__name__)

MIN_READINGS = 30
_DOUBTFUL_SHARE = 0.1
"""Where more of the scores reach the bundle's limit, the machine differs much from those that the model knows, or it
was not healthy."""
_LIFTED = 5.0
"""A limit that a hundredth of its scores lift by this factor comes from them alone. In 300 draws of 100 exponential
scores each, less than one in 100 were lifted by more than 2.3."""
_SHOWN = 20
_UNKEPT = 64
"""Of an asset's scores, one part in so many may be missing in the journal. Written with each reading, those of a day
would be 30 GB."""


class Commissioned(msgspec.Struct, frozen=True):
    """What an asset was given; the journal keeps it."""

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
        self._kept: dict[str, int] = {}
        """How many scores of an asset the journal has."""

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
            for known in (self._collected, self._ready, self._kept):
                known.pop(name, None)

    def assets(self) -> set[str]:
        """Assets that are being commissioned, or were."""
        return {*self._collected, *self._ready}

    def ready(self, asset: str) -> Commissioned | None:
        """What an asset was given; None while it is being commissioned."""
        return self._ready.get(asset)

    def restore(self, asset: str, ready: Commissioned) -> None:
        """Put back what `ready` gave; scores from before that are of no use."""
        self._ready[asset] = ready
        self._collected.pop(asset, None)

    def unkept(self, asset: str) -> int:
        """How many of an asset's scores the journal has too few, or too many."""
        return abs(len(self._collected.get(asset, ())) - self._kept.get(asset, 0))

    def is_due(self, asset: str) -> bool:
        """Whether the journal should get an asset's scores."""
        return self.unkept(asset) > len(self._collected.get(asset, ())) // _UNKEPT

    def dump_scores(self, asset: str) -> bytes:
        """An asset's scores, for the journal."""
        scores = self._collected.get(asset, [])
        self._kept[asset] = len(scores)
        return np.array(scores, dtype=np.float32).tobytes()

    def restore_scores(self, asset: str, dumped: bytes) -> None:
        """Put back what `dump_scores` gave, unless the asset has its limits."""
        scores = np.frombuffer(dumped, dtype=np.float32).tolist()
        self._kept[asset] = len(scores)
        if scores and asset not in self._ready:
            self._collected[asset] = scores

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


def make_commission(settings: CommissionSettings, manifest: Manifest) -> Commission | None:
    """The commissioning of a stream; None where the bundle's limits are for all."""
    if not settings.readings:
        return None
    return Commission(settings.readings, manifest.false_alarm_rate, manifest.threshold)


def _highest(numbers: dict[str, float]) -> dict[str, float]:
    return {asset: numbers[asset] for asset in nlargest(_SHOWN, numbers, key=numbers.__getitem__)}
