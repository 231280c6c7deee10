"""What goes into the scoring of a batch of readings, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.events import AlertBatch

__all__ = ["Outcome", "WindowBatch"]


class Outcome(msgspec.Struct):
    """What one batch did."""

    scored: int = 0
    not_finite: int = 0
    """Windows whose score was NaN or infinite; they change no alarm."""
    alerts: AlertBatch | None = None
    """What it did to alarms; None when nothing."""
    drift: list[tuple[int, AlertEvent]] = msgspec.field(default_factory=list)
    """That the stream as a whole has drifted, or is back: each with the row of the window that told it."""
    changed: set[str] = msgspec.field(default_factory=set)
    """Assets of which an alarm or the commissioning has changed."""
    records: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(asset, record) pairs to keep in the journal; an empty record takes the asset's away."""
    refused: list[str] = msgspec.field(default_factory=list)
    """The asset of each reading that was left out, because there is no room for another asset."""

    @property
    def events(self) -> list[AlertEvent]:
        """What to publish, in order; made anew each time."""
        if not self.drift:
            return list(self.alerts or ())
        rows = () if self.alerts is None else (told.row for told in self.alerts.changes)
        pairs = [*zip(rows, self.alerts or (), strict=True), *self.drift]
        return [event for _, event in sorted(pairs, key=lambda pair: pair[0])]

    def kinds(self) -> list[str]:
        """Of those events the `event` fields, without making them."""
        changes = () if self.alerts is None else self.alerts.changes
        return [*(told.change.transition for told in changes), *(event.event for _, event in self.drift)]


class WindowBatch(msgspec.Struct, frozen=True):
    """Windows that are ready to be scored, in order; all have one length."""

    values: FloatArray
    """Shape (n, window, channels), oldest reading first."""
    assets: Sequence[str]
    times: Sequence[float]
    """Of each window's last reading, epoch seconds."""

    def __len__(self) -> int:
        return len(self.values)
