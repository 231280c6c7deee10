"""Values that readings did not have: which channels, for health and for the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.stream.window import Windows

__all__ = ["AbsentValues"]

log = logging.getLogger(__name__)

_TOLD_INCOMPLETE = 10
"""Readings without a channel, after which that is told; the first of each asset may well be so."""
_SHOWN = 20
"""Channels, at most."""


class AbsentValues:
    """What the windows of one stream have counted, by the names of channels.

    Args:
        stream: the stream's name.
        channels: names, in order.
        windows: count.
        skips: readings that are not whole are left out on purpose.
    """

    def __init__(self, stream: str, channels: Sequence[str], windows: Windows, *, skips: bool) -> None:
        self._stream = stream
        self._channels = channels
        self._windows = windows
        self._told_incomplete = skips
        self._told_held: set[str] = set()

    def describe(self) -> dict[str, dict[str, int]]:
        """For health."""
        return {"missing": self._by_channel(self._windows.missing), "held": self._by_channel(self._windows.held)}

    def tell(self) -> None:
        """Log each once; to be called now and then."""
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
