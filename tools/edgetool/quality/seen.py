"""Each labelled event as one detector saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetool.quality.alerts import Found, Scored
from edgetool.quality.judge import Labelled

__all__ = ["EventSeen", "events_seen"]


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One labelled event, as one detector saw it at its own limit."""

    found: bool
    was_open: bool
    """True if it was not found because an alert from before was still open."""
    raised_row: int | None
    """The row that raised its alert, counted from 0; None if it was not found."""
    delay_rows: int | None
    """From its first row to that one."""
    delay_s: float | None
    """The same in seconds; None where the file has no times."""
    peak: float | None
    """Its highest score; None where no score is of it."""
    peak_row: int | None
    shares: tuple[tuple[str, float], ...]
    """Each channel's share of the peak, the largest first; empty where the model does not tell, or beyond the first 200
    events."""

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "shares"}
        return {**plain, "channels": [{"name": name, "share": round(share, 4)} for name, share in self.shares]}


def events_seen(scored: Scored, found: Found, labelled: Labelled) -> tuple[EventSeen, ...]:
    """Put together what is known of each event, without the channels' shares.

    Args:
        scored: the detector's scores.
        found: what its alerts found.
        labelled: the rows and their events.
    """
    events, times, order = labelled.events, labelled.times, labelled.rows.order
    first = np.searchsorted(scored.place, events.first)
    past = np.searchsorted(scored.place, events.last, side="right")
    seen = []
    for number, raised in enumerate(found.raised.tolist()):
        begin, at = int(events.first[number]), int(scored.place[raised])
        scores = scored.score[first[number] : past[number]]
        peak = int(first[number] + np.argmax(scores)) if scores.size else -1
        seen.append(
            EventSeen(
                found=raised >= 0,
                was_open=bool(found.was_open[number]),
                raised_row=int(order[at]) if raised >= 0 else None,
                delay_rows=at - begin if raised >= 0 else None,
                delay_s=float(times[at] - times[begin]) if raised >= 0 and times is not None else None,
                peak=float(scored.score[peak]) if scores.size else None,
                peak_row=int(order[scored.place[peak]]) if scores.size else None,
                shares=(),
            )
        )
    return tuple(seen)
