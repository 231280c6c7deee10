"""Assets whose readings come at another pace than those that the model's windows were made of."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.messages.reading import Readings
from edge_agent.messages.text import printable

__all__ = ["PACE_FACTOR", "Intervals", "intervals_in_words"]

log = logging.getLogger(__name__)

_ANOTHER_PACE = "readings come at another pace than the model's windows have"
_BLOCK = 30
"""Differences of times that are judged together."""
PACE_FACTOR = 2.0
"""Rows that are so many times as far apart as those of the windows, or as near, are of another pace."""
_ASSET_BYTES = 350
_SHOWN = 20
"""Most assets in a description."""


class _Block(msgspec.Struct, gc=False):
    """What is counted of an asset: the times of its first and last reading, and how many differences lie where."""

    first_s: float
    last_s: float
    count: int = 0
    short: int = 0
    long: int = 0
    long_s: float = 0.0
    """Sum of the long ones."""
    longest_s: float = 0.0
    """Which may be a pause."""


class Intervals:
    """Watches how far the readings of each asset are apart, by their own times. A window of one reading has no pace.

    The median of a block of differences decides, which a pause or a missing reading does not move. It is found by
    counting: it is at most half of what is expected if more than half of the differences are. The mean must agree,
    because readings of one message that have no time all have that of its arrival.

    Nothing is kept over a restart: what goes on is told again.

    Args:
        stream: the stream's name, for the log.
        manifest: of the bundle.
        is_resampled: the windows are made of readings at an interval that the settings give.
    """

    def __init__(self, stream: str, manifest: Manifest, *, is_resampled: bool = False) -> None:
        self._stream = stream
        self._expected_s = manifest.interval_s if manifest.window > 1 and not is_resampled else None
        self._blocks: dict[str, _Block] = {}
        self._wrong: dict[str, float] = {}

    @property
    def asset_bytes(self) -> int:
        """Bytes that one asset takes, about."""
        return 0 if self._expected_s is None else _ASSET_BYTES

    def add(self, readings: Readings) -> None:
        """Count the differences of a batch's times. A reading that is older than its asset's last one counts for none.

        Args:
            readings: in order of arrival.
        """
        expected_s = self._expected_s
        if expected_s is None:
            return
        short_s, long_s = expected_s / PACE_FACTOR, expected_s * PACE_FACTOR
        blocks = self._blocks
        for asset, time_s in zip(readings.assets, readings.times, strict=True):
            block = blocks.get(asset)
            if block is None:
                blocks[asset] = _Block(time_s, time_s)
                continue
            apart_s = time_s - block.last_s
            if apart_s < 0:
                if apart_s < -_BLOCK * expected_s:  # the sender's clock was set back
                    blocks[asset] = _Block(time_s, time_s)
                continue
            block.last_s = time_s
            block.count += 1
            if apart_s <= short_s:
                block.short += 1
            elif apart_s >= long_s:
                block.long += 1
                block.long_s += apart_s
                block.longest_s = max(block.longest_s, apart_s)
            if block.count == _BLOCK:
                self._judge(asset, block, expected_s)
                blocks[asset] = _Block(time_s, time_s)

    def forget(self, asset: str) -> None:
        """Drop an asset."""
        self._blocks.pop(asset, None)
        self._wrong.pop(asset, None)

    def describe(self) -> dict[str, Any] | None:
        """For the health message: what is expected, and what 20 assets have; None if nothing is expected."""
        if self._expected_s is None:
            return None
        shown = {printable(asset): self._wrong[asset] for asset in sorted(self._wrong)[:_SHOWN]}
        return {"expected_s": self._expected_s, "count": len(self._wrong), "assets": shown}

    def _judge(self, asset: str, block: _Block, expected_s: float) -> None:
        mean_s = (block.last_s - block.first_s) / block.count
        found_s: float | None = None
        if 2 * block.short > block.count and mean_s <= expected_s / PACE_FACTOR:
            found_s = mean_s
        elif 2 * block.long > block.count and mean_s >= expected_s * PACE_FACTOR:
            found_s = (block.long_s - block.longest_s) / (block.long - 1)
        if found_s is None:
            if self._wrong.pop(asset, None) is not None:
                log.info("readings come at the model's pace again stream=%s asset=%r", self._stream, asset)
            return
        if asset not in self._wrong:
            log.warning(
                "%s stream=%s asset=%r interval_s=%.4g expected_s=%.4g",
                _ANOTHER_PACE,
                self._stream,
                asset,
                found_s,
                expected_s,
            )
        self._wrong[asset] = round(found_s, 6)


def intervals_in_words(told: dict[str, Any]) -> str:
    """What `Intervals.describe` says, for a person."""
    expected = f"{told['expected_s']:g} s apart"
    if not told["count"]:
        return f"none that is another than that of the model's windows, {expected}"
    assets = ", ".join(f"{asset} {found_s:.4g} s" for asset, found_s in told["assets"].items())
    more = f" and {told['count'] - len(told['assets'])} more" if told["count"] > len(told["assets"]) else ""
    return f"{_ANOTHER_PACE}, {expected}: {assets}{more}"
