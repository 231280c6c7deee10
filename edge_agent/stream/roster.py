"""Bounds the number of assets that a stream remembers: names come from topics, and any sender may use a new topic.

A flood of names must neither push out what is worth keeping nor shut out what comes after it:

    an asset                                        is forgotten for a new one
    with a limit of its own, or on its way to it    never
    with an open alert                              never while such assets hold about half of the room; of more, the
                                                    one that came last goes first, but none of an earlier run
    any other                                       when it is the one heard least recently

All other state of an asset is only kept while the roster has the asset, so the roster bounds that state too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import NamedTuple

from edge_agent.stream.room import Room

__all__ = ["Pinned", "Roster"]


class Pinned(NamedTuple):
    """Assets that are not forgotten for being silent."""

    limited: Collection[str]
    """With a limit of their own, or on their way to it."""
    alerting: Collection[str]
    """With an open alert."""


class Roster:
    """The assets of one stream, up to a limit. A new asset takes the place of another.

    Args:
        room: says how many; its limit may change at any time.
        pinned: gives the assets that are pinned now. An asset must not become pinned unless it was heard.
    """

    def __init__(self, room: Room, pinned: Callable[[], Pinned]) -> None:
        self._room = room
        self._pinned = pinned
        self._batch = 1
        self._told = 1
        self._heard: dict[str, int] = {}
        """The number of the batch that each asset was last heard in; 0 for an asset of an earlier run."""
        self._met: dict[str, int] = {}
        """The number of the batch that each asset came with; those of an earlier run are not in it."""
        self._new = 0
        """Number of assets that the last batch has added; they are the last ones in `_heard`."""
        self._next: list[tuple[int, str]] = []
        """Candidates to forget, (batch, asset), the next one last. The list is only made anew when it is used up, so
        that a thousand new names cost one search through all assets."""
        self._next_has_alerts = False
        """True if those candidates go because too many assets have an open alert."""
        self.forgotten = 0
        """Number of assets that were forgotten to make room."""

    def assets(self) -> list[str]:
        """All assets that are remembered."""
        return list(self._heard)

    def restore(self, asset: str) -> None:
        """Add an asset of an earlier run; after the last one, the caller must call `make_room`."""
        self._heard.setdefault(asset, 0)

    def hear(self, assets: Iterable[str]) -> bool:
        """Note the assets of a batch of readings, each once.

        Returns:
            True if there are too many assets now, so that the caller must call `make_room`.
        """
        heard = self._heard
        before = len(heard)
        self._batch = batch = self._batch + 1
        # One assignment is all that a known asset costs; new assets are found by the growth of the dict.
        for asset in assets:
            heard[asset] = batch
        self._new = len(heard) - before
        if self._new:
            self._met.update(dict.fromkeys(islice(reversed(heard), self._new), batch))
        return self._new > 0 and len(heard) > self._room.limit

    def make_room(self) -> tuple[list[str], list[str]]:
        """Bring the number of assets down to the limit.

        Returns:
            The assets that are forgotten, none of which is of the last batch; and the new assets of the last batch that
            are refused, because no other asset may be forgotten.
        """
        forgotten: list[str] = []
        while len(self._heard) > self._room.limit:
            if not self._next:
                self._next = self._by_age()
                if not self._next:
                    break
            batch, asset = self._next.pop()
            if self._heard.get(asset) == batch:  # otherwise it was heard again, or forgotten, since
                self.forget(asset)
                forgotten.append(asset)
        self.forgotten += len(forgotten)
        # Where the limit was lowered, the excess may be larger than the number of new assets, and the rest stays.
        excess = min(self._new, int(max(0, len(self._heard) - self._room.limit)))
        refused = list(islice(reversed(self._heard), excess))
        for asset in refused:
            self.forget(asset)
        self._new -= len(refused)
        return forgotten, refused

    def forget(self, asset: str) -> None:
        """Remove an asset, if it is here."""
        self._heard.pop(asset, None)
        self._met.pop(asset, None)

    def alert_ended(self) -> None:
        """Note that an alert was cleared, so that there may be too many of them no longer."""
        if self._next_has_alerts:
            self._next, self._next_has_alerts = [], False

    def newcomers(self) -> list[str]:
        """The assets that the last batch has added."""
        return list(islice(reversed(self._heard), self._new))

    def known_since(self, asset: str) -> int:
        """When an asset came, as a number that grows with time: 0 in an earlier run, now if it is not remembered."""
        return self._met.get(asset, 0 if asset in self._heard else self._batch)

    @property
    def newest(self) -> int:
        """What `known_since` gives for an asset that comes now."""
        return self._batch

    def take_heard(self) -> list[str]:
        """The assets that were heard since the last call."""
        told, self._told = self._told, self._batch
        return [asset for asset, batch in self._heard.items() if batch > told]

    def _by_age(self) -> list[tuple[int, str]]:
        """The assets that may be forgotten, the first one to go last; none of the last batch."""
        limited, alerting = self._pinned()
        heard = ((batch, asset) for asset, batch in self._heard.items() if batch < self._batch)
        candidates = [pair for pair in heard if pair[1] not in limited]
        free = [pair for pair in candidates if pair[1] not in alerting]
        # Some that have gone a moment ago are still among them.
        here = sum([asset in self._heard for asset in alerting])
        excess = here - max(1, int(self._room.limit // 2))
        # A look at all assets must serve for many new ones, so alerts hold a tenth more before they make room.
        too_many: list[tuple[int, str]] = []
        if excess > 0 and not (free and excess <= self._room.limit // 10):
            mine = [pair for pair in candidates if pair[1] in alerting and pair[1] in self._met]
            too_many = sorted(mine, key=lambda pair: (self._met[pair[1]], pair[1]))[-excess:]
        self._next_has_alerts = bool(too_many)
        return too_many or sorted(free, reverse=True)
