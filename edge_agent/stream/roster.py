"""Which assets a stream remembers, and who makes room: names come from topics, and anybody may write to a new one.

Whatever else in a stream is kept for each asset is kept for those that are here, so its bound is here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from itertools import islice

__all__ = ["Roster"]


class Roster:
    """The assets of one stream, at most so many. One that is new takes the place of the one heard least recently.

    Args:
        limit: assets; 0 sets none.
        pinned: gives those that nobody takes the place of. One that was not heard must not become one of them.
    """

    def __init__(self, limit: int, pinned: Callable[[], Collection[str]]) -> None:
        self.limit = limit or math.inf
        """Assets."""
        self._pinned = pinned
        self._batch = 1
        self._told = 1
        self._heard: dict[str, int] = {}
        """The number of the batch that each was last heard in; 0 for those of an earlier run."""
        self._new = 0
        """Assets that the last batch has added, which are the last ones in `_heard`."""
        self._next: list[tuple[int, str]] = []
        """Those that make room next, last to first, as they were when somebody had to; found anew when used up, so that
        a thousand new names cost one look at all."""
        self.forgotten = 0
        """Assets that made room."""

    def assets(self) -> list[str]:
        """All of them."""
        return list(self._heard)

    def restore(self, asset: str) -> None:
        """Add one of an earlier run; behind the last one, `make_room` has to follow."""
        self._heard.setdefault(asset, 0)

    def hear(self, assets: Iterable[str]) -> bool:
        """A batch of readings came from these; gives whether there are too many now, and `make_room` has to follow."""
        heard = self._heard
        before = len(heard)
        self._batch = batch = self._batch + 1
        # All that known ones cost: whether one is new, only the number tells.
        for asset in assets:
            heard[asset] = batch
        self._new = len(heard) - before
        return self._new > 0 and len(heard) > self.limit

    def make_room(self) -> tuple[list[str], list[str]]:
        """Bring their number down to the limit.

        Returns:
            Those that are forgotten, none of which is of the last batch; and those of the last batch that are refused,
            because nobody else may be forgotten.
        """
        forgotten: list[str] = []
        while len(self._heard) > self.limit:
            if not self._next:
                self._next = self._by_age()
                if not self._next:
                    break
            batch, asset = self._next.pop()
            if self._heard.get(asset) == batch:  # else it was heard meanwhile, or is gone
                del self._heard[asset]
                forgotten.append(asset)
        self.forgotten += len(forgotten)
        # More than the new ones there can be too many of where the limit was lowered.
        excess = min(self._new, int(max(0, len(self._heard) - self.limit)))
        refused = list(islice(reversed(self._heard), excess))
        for asset in refused:
            del self._heard[asset]
        return forgotten, refused

    def forget(self, asset: str) -> None:
        """The asset is gone."""
        self._heard.pop(asset, None)

    def take_heard(self) -> list[str]:
        """Those that were heard since the last call."""
        told, self._told = self._told, self._batch
        return [asset for asset, batch in self._heard.items() if batch > told]

    def _by_age(self) -> list[tuple[int, str]]:
        """Those that may be forgotten, the one heard least recently last; none of the last batch."""
        pinned = self._pinned()
        return sorted(
            ((batch, asset) for asset, batch in self._heard.items() if batch < self._batch and asset not in pinned),
            reverse=True,
        )
