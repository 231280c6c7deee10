"""Values that are missing in readings, counted for each channel, for the health message and the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.stream.window import Windows

__all__ = ["MissingValues"]

log = logging.getLogger(__name__)

_TOLD_INCOMPLETE = 10
"""Incomplete readings after which a warning is logged, beside one for each asset: the first reading of an asset may
well be incomplete."""
_SHOWN = 20
"""Most channels in a description."""


class MissingValues:
    """Reports the missing values that the windows of one stream have counted, by the names of channels.

    Args:
        stream: the stream's name.
        channels: their names, in the manifest's order.
        windows: the stream's windows, which count missing values.
        skips: True if the settings leave incomplete readings out, so that they need no warning.
    """

    def __init__(self, stream: str, channels: Sequence[str], windows: Windows, *, skips: bool) -> None:
        self._stream = stream
        self._channels = channels
        self._windows = windows
        self._told_incomplete = skips
        self._told_held: set[str] = set()

    def describe(self) -> dict[str, dict[str, int]]:
        """Two counts for the health message, by channel, of at most 20 channels each.

        Returns:
            "missing": values that were missing, so that their reading was left out; "held": values that were missing
            and replaced by the last one of the channel. A channel without such values is left out.
        """
        return {"missing": self._by_channel(self._windows.missing), "held": self._by_channel(self._windows.held)}

    def tell(self) -> None:
        """Log a warning, once, of incomplete readings, and each channel, once, whose value was held.

        Must be called regularly, because counting alone logs nothing.
        """
        windows, told = self._windows, self.describe()
        if not self._told_incomplete and windows.incomplete >= _TOLD_INCOMPLETE + len(windows):
            self._told_incomplete = True
            missing = ", ".join(f"{name} in {count}" for name, count in told["missing"].items())
            log.warning("readings are incomplete, not scored stream=%s missing=%r", self._stream, missing)
        if new := told["held"].keys() - self._told_held:
            self._told_held |= new
            names = ", ".join(sorted(new))
            log.info("values are missing, the last ones are held stream=%s channels=%r", self._stream, names)

    def _by_channel(self, counts: NDArray[np.int64]) -> dict[str, int]:
        return {self._channels[place]: int(counts[place]) for place in counts.nonzero()[0][:_SHOWN]}
