"""Counts the values that were no numbers, by channel, for the health message and the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

__all__ = ["UnreadableValues"]

log = logging.getLogger(__name__)

_SHOWN = 20
"""Most channels in a description."""
_TELL_INTERVAL_S = 60.0


class UnreadableValues:
    """The values of one stream that were no numbers, and so are missing in their readings.

    Args:
        channels: the manifest's channel names, in order.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._counts: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._sample: object = None
        self._due_mono_s = 0.0

    def add(self, counts: Counter[int], sample: object) -> None:
        """Count the values of one message.

        Args:
            counts: by the channel's place; empty if they all were numbers in another form.
            sample: one of the values, as it was sent.
        """
        if not counts.total():
            return
        named = {self._channels[place]: count for place, count in counts.items() if count}
        self._counts.update(named)
        self._untold.update(named)
        self._sample = sample

    def describe(self) -> dict[str, int]:
        """The counts by channel, of at most 20 channels, the largest first."""
        return dict(self._counts.most_common(_SHOWN))

    def tell(self, stream: str, now_mono_s: float) -> None:
        """Log the values that were added since it last did, at most once a minute.

        Args:
            stream: its name.
            now_mono_s: monotonic; infinite to tell the rest at the end.
        """
        if not self._untold or now_mono_s < self._due_mono_s:
            return
        channels = ", ".join(f"{name} in {count}" for name, count in self._untold.most_common(_SHOWN))
        log.warning(
            "values are no numbers, taken as missing stream=%s channels=%r sample=%.60r", stream, channels, self._sample
        )
        self._untold.clear()
        self._due_mono_s = now_mono_s + _TELL_INTERVAL_S
