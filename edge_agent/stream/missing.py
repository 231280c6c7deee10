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
_TOLD = {"held": "the last ones are held", "passed": "the model takes them as they are"}
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
        self._told_channels: set[tuple[str, str]] = set()

    def describe(self) -> dict[str, dict[str, int]]:
        """Three counts for the health message, by channel, of at most 20 channels each.

        Returns:
            "missing": values that were missing, so that their reading was left out; "held": values that were missing
            and replaced by the last one of the channel; "passed": values that were missing, and that the model was
            given as they are. A channel without such values is left out.
        """
        windows = self._windows
        counts = {"missing": windows.missing, "held": windows.held, "passed": windows.passed}
        return {name: self._by_channel(each) for name, each in counts.items()}

    def tell(self) -> None:
        """Log a warning, once, of incomplete readings, and each channel, once, that was held or passed on.

        Must be called regularly, because counting alone logs nothing.
        """
        windows, told = self._windows, self.describe()
        if not self._told_incomplete and windows.incomplete >= _TOLD_INCOMPLETE + len(windows):
            self._told_incomplete = True
            missing = ", ".join(f"{name} in {count}" for name, count in told["missing"].items())
            log.warning("readings are incomplete, not scored stream=%s missing=%r", self._stream, missing)
        for kind, what in _TOLD.items():
            if new := {(kind, name) for name in told[kind]} - self._told_channels:
                self._told_channels |= new
                names = ", ".join(sorted(name for _, name in new))
                log.info("values are missing, %s stream=%s channels=%r", what, self._stream, names)

    def _by_channel(self, counts: NDArray[np.int64]) -> dict[str, int]:
        return {self._channels[place]: int(counts[place]) for place in counts.nonzero()[0][:_SHOWN]}
