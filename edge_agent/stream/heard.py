"""How long each asset of a stream has been silent, in time that somebody listened: no clock is read here."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

__all__ = ["Heard"]


class Heard:
    """When each asset was last heard, in seconds of listening since the start.

    Time in which the broker was away, or the agent took no readings, is not listened: an asset is not silent because
    nobody hears it.
    """

    def __init__(self) -> None:
        self._listened_s = 0.0
        self._seen_s: dict[str, float] = {}

    def __contains__(self, asset: str) -> bool:
        return asset in self._seen_s

    def note(self, assets: Iterable[str], heard: Collection[str], listened_s: float) -> None:
        """Note who was heard.

        Args:
            assets: all that are remembered; others are dropped. One that is new counts as heard.
            heard: those of them that were heard since the last call.
            listened_s: since the last call, seconds; at least 0.
        """
        self._listened_s += listened_s
        now_s, seen = self._listened_s, self._seen_s
        self._seen_s = {asset: now_s if asset in heard else seen.get(asset, now_s) for asset in assets}

    @property
    def listened_s(self) -> float:
        """Seconds of listening since the start."""
        return self._listened_s

    def silent_s(self, asset: str) -> float:
        """For how long an asset was silent, seconds of listening; 0 for one that is not remembered."""
        return self._listened_s - self._seen_s.get(asset, self._listened_s)

    def silent_for(self, limit_s: float) -> list[str]:
        """The assets that were silent for at least so many seconds of listening."""
        newest_s = self._listened_s - limit_s
        return [asset for asset, seen_s in self._seen_s.items() if seen_s <= newest_s]

    @property
    def quiet_s(self) -> float:
        """For how long none at all was heard, seconds of listening; infinite without assets."""
        return self._listened_s - max(self._seen_s.values(), default=-math.inf)

    def assets(self) -> Iterable[str]:
        """All that are remembered."""
        return self._seen_s.keys()

    def set_silent(self, asset: str, silent_s: float) -> None:
        """Take an asset for silent, since so many seconds of listening; 0 takes it for heard."""
        self._seen_s[asset] = self._listened_s - silent_s
