"""How many assets a stream has room for: by their number, and by the memory that each may take."""

from __future__ import annotations

import math

from edge_agent.stream.alarm import FLAP_RAISES
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window import Windows

__all__ = ["Room"]

_ASSET_BYTES = 2500
"""What an asset may take beside its arrays, about: Python's objects for its place, its alarm, an open alert and the
times of as many raises as are counted by default take 0.9 kB (measured with 20,000 assets, on Python 3.11), and its
name up to 1 kB, at four bytes for each of 256 signs."""
_JOIN_BYTES = 400
"""What an open reading takes beside its values."""
_RAISE_BYTES = 40
"""What the time of each raise beyond those takes, while flapping is looked for."""
_SCORE_BYTES = 4


class Room:
    """The most assets that a stream may remember, so that all together stay below its bound in bytes.

    What an asset may take depends on settings and bundle only: rows and last values (`Windows.asset_bytes`), an open
    reading of `Join`, times of many raises, and while it is commissioned its scores. An asset is counted with all that
    it may come to hold, so none has to be counted again as it grows. Its records in the journal are smaller: they have
    the rows of one window, not of two, and the same scores.

    Measured with windows of 128 readings of 9 channels: 60,000 names leave 5,361 assets; see docs/alarms.md.

    Args:
        settings: of the stream.
        windows: of the stream.
        more_bytes: what an asset takes beside them, in arrays.
    """

    def __init__(self, settings: StreamSettings, windows: Windows, more_bytes: int = 0) -> None:
        self._most = settings.max_assets or math.inf
        self._limit_mb = settings.max_state_mb
        join = 0 if settings.join_s is None else _JOIN_BYTES + 4 * windows.channels
        raises = _RAISE_BYTES * max(0, settings.alarm.flap_raises - FLAP_RAISES)
        self.asset_bytes = _ASSET_BYTES + windows.asset_bytes + join + raises + more_bytes
        """What an asset may take at most, about, without the scores that it is commissioned from."""
        self.scores_bytes = _SCORE_BYTES * settings.commission.readings
        """What those scores take."""
        self.limit = math.inf
        """Most assets, at least 1; infinite without a limit."""
        self.bound = ""
        """The setting that sets `limit` now, as `key = value`."""
        self.fit(0)

    def fit(self, ready: int) -> None:
        """Set `limit`.

        Args:
            ready: how many of the assets are commissioned, so that their scores are not kept any more.
        """
        fitting = math.inf
        if self._limit_mb:
            fitting = (self._limit_mb * 1e6 + ready * self.scores_bytes) // (self.asset_bytes + self.scores_bytes)
        self.limit = max(1, min(self._most, fitting))
        narrow = fitting < self._most
        self.bound = f"max_state_mb = {self._limit_mb:g}" if narrow else f"max_assets = {self._most:g}"
