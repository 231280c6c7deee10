"""Which of the waiting events goes next: lanes take turns, each in the order of the journal's places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from heapq import heappop, heappush

from edge_agent.journal.outbox import PLAIN, START, Outgoing, Place

__all__ = ["Load", "Turns"]

_AT_ONCE = 20
_EARLY_LIMIT = 1000

Load = Callable[[str, Place, int], list[Outgoing]]
"""`Journal.in_turn`."""


class _Lane:
    """How far the events of one lane are given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._begin()

    def _begin(self) -> None:
        self._given = START
        self._may_have_more = True
        self._loaded: deque[Outgoing] = deque()
        self._early: list[Place] = []
        """Places before `_given` of events that came later, or were given back; a heap."""

    def add(self, place: Place) -> None:
        """An event has this place now."""
        if place > self._given:
            self._may_have_more = True
        elif len(self._early) < _EARLY_LIMIT:
            heappush(self._early, place)
        else:
            self._begin()

    def unload(self) -> None:
        """Hold no event, for each may be deleted before its turn comes."""
        if self._loaded:
            self._may_have_more = True
            self._loaded.clear()

    def next(self, load: Load) -> Outgoing | None:
        """See `Turns.next`."""
        while self._early:
            turn, since, seq = self._early[0]
            found = load(self.name, (turn, since, seq - 1), 1)
            heappop(self._early)
            if found and found[0].seq == seq:  # otherwise it was deleted since
                return found[0]
        if not self._loaded and self._may_have_more:
            self._loaded.extend(load(self.name, self._given, _AT_ONCE))
            self._may_have_more = len(self._loaded) == _AT_ONCE
        if not self._loaded:
            return None
        event = self._loaded.popleft()
        self._given = event.place
        return event


class Turns:
    """Gives each waiting event once, until all are to be given again.

    Args:
        load: reads a lane of the journal.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._plain = _Lane(PLAIN)
        """It takes no part in the turns: its events are older than the others of their topics."""
        self._order: deque[_Lane] = deque()
        """All other lanes; the one whose turn it is comes first."""
        self._lanes = {PLAIN: self._plain}

    def rewind(self, lanes: Collection[str]) -> None:
        """Give all events again.

        Args:
            lanes: those that have events.
        """
        # The rotation goes on where it was, or many a rewind would give all turns to the first lane.
        names = [lane.name for lane in self._order if lane.name in lanes]
        self._order = deque(_Lane(name) for name in dict.fromkeys((*names, *lanes)) if name != PLAIN)
        self._plain = _Lane(PLAIN)
        self._lanes = {lane.name: lane for lane in (self._plain, *self._order)}

    def add(self, lane: str, place: Place) -> None:
        """An event was added to the journal."""
        if lane not in self._lanes:
            self._lanes[lane] = _Lane(lane)
            self._order.append(self._lanes[lane])
        self._lanes[lane].add(place)

    def next(self) -> Outgoing | None:
        """The event whose turn it is; None if all were given.

        Raises:
            JournalError: the journal cannot be read.
        """
        event = self._plain.next(self._load)
        if event is not None:
            return event
        for _ in range(len(self._order)):
            event = self._order[0].next(self._load)
            self._order.rotate(-1)
            if event is not None:
                return event
        return None

    def give_back(self, event: Outgoing) -> None:
        """It could not go, and is given again before all others of its lane."""
        self.add(event.lane, event.place)

    def pause(self) -> None:
        """To be called before the journal may change."""
        self._plain.unload()
        for lane in self._order:
            lane.unload()
