"""The input of scoring, a batch of windows, and its result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.events import AlertBatch

__all__ = ["Outcome", "WindowBatch"]


class Outcome(msgspec.Struct):
    """The result of processing one batch of readings."""

    scored: int = 0
    """Number of windows that were scored."""
    not_finite: int = 0
    """Number of windows whose score was NaN or infinite; such scores change no alarm."""
    at_limit: int = 0
    """Number of windows whose score reached the lowest limit; 0 where assets have limits of their own."""
    alerts: AlertBatch | None = None
    """The changes of alarms; None when there are none."""
    released: list[AlertEvent] = msgspec.field(default_factory=list)
    """Events that no score has made: clears of alerts whose assets made room for others, silences, frozen values."""
    drift: list[tuple[int, AlertEvent]] = msgspec.field(default_factory=list)
    """Events of the stream's drift, each with the row of the window that finished the block."""
    changed: set[str] = msgspec.field(default_factory=set)
    """Assets whose alarm state or commissioning has changed."""
    records: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(asset, record) pairs to keep in the journal; an empty record deletes the asset's record."""
    refused: list[str] = msgspec.field(default_factory=list)
    """The asset of each reading that was left out, because there was no room for another asset."""

    @property
    def events(self) -> list[AlertEvent]:
        """All events to publish, in the order of their windows; made anew by each access."""
        if not self.drift:
            return [*self.released, *(self.alerts or ())]
        rows = () if self.alerts is None else (told.row for told in self.alerts.changes)
        pairs = [*zip(rows, self.alerts or (), strict=True), *self.drift]
        return [*self.released, *(event for _, event in sorted(pairs, key=lambda pair: pair[0]))]

    def kinds(self) -> list[str]:
        """The `event` fields of all events, alarms before drift, without making the events."""
        changes = () if self.alerts is None else self.alerts.changes
        return [
            *(event.event for event in self.released),
            *(told.change.transition for told in changes),
            *(event.event for _, event in self.drift),
        ]


class WindowBatch(msgspec.Struct, frozen=True):
    """Windows that are ready to be scored, in the order of the readings that completed them."""

    values: FloatArray
    """Shape (n, window, channels), float32, oldest reading first."""
    assets: Sequence[str]
    """The asset of each window."""
    times: Sequence[float]
    """Time of each window's last reading, epoch seconds."""
    begun: Collection[int] = ()
    """Rows whose window is the first of its asset since the window began anew, or began at all."""

    def __len__(self) -> int:
        return len(self.values)

    def rows_that_matter(
        self, at_limit: list[int], states: Mapping[str, object], pass_from: Callable[[int, int], int]
    ) -> Iterator[int]:
        """Rows whose score can change the state of an alarm, in order.

        The states are read when the next row is asked for, so they include the changes by the rows before it.

        Args:
            at_limit: rows whose score reaches the lowest limit, in order.
            states: of the assets that have one; the score of another asset only matters at the limit.
            pass_from: as `Quiet.pass_from`.
        """
        assets = self.assets
        row = 0
        for raising in [*at_limit, len(assets)]:
            quiet = row
            while states and quiet < raising:
                if assets[quiet] in states:
                    passed = pass_from(quiet, raising)
                    if passed > quiet:
                        quiet = passed
                        continue
                    yield quiet
                quiet += 1
            row = raising + 1
            if raising < len(assets):
                yield raising
