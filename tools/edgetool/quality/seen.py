"""Each labelled event as one detector saw it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edgetool.quality.alerts import Found, Scored
from edgetool.quality.judge import Labelled

__all__ = ["EventSeen", "EventSpan", "events_seen", "last_window", "spans_of"]


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

    def in_words(self) -> str:
        """What became of it, with the channels that its highest score came from."""
        verdict = "found" if self.found else "open before" if self.was_open else "MISSED"
        late = "" if self.delay_rows is None else f" after {self.delay_rows} rows"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.shares[:3])
        peak = "no score" if self.peak is None else f"highest score {self.peak:.4g}"
        return f"{verdict}{late}; {peak}{f': {shares}' if shares else ''}"

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "shares"}
        return {**plain, "channels": [{"name": name, "share": round(share, 4)} for name, share in self.shares]}


@dataclass(frozen=True, slots=True)
class EventSpan:
    """Where a labelled event is."""

    asset: str
    first_row: int
    """Counted from 0."""
    last_row: int
    first_s: float | None
    """Time of the first row, epoch seconds; None where the file has no times."""
    last_s: float | None

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_words(self) -> str:
        """Asset, rows, and time where there is one."""
        when = "" if self.first_s is None else f", {datetime.fromtimestamp(self.first_s, UTC):%Y-%m-%d %H:%M:%S}Z"
        return f"{self.asset}, rows {self.first_row} to {self.last_row}{when}"


def spans_of(labelled: Labelled) -> list[EventSpan]:
    """Where each event is, in the order of the events."""
    rows, events, times = labelled.rows, labelled.events, labelled.times
    assets = rows.asset_of(events.first).tolist()
    return [
        EventSpan(
            asset=rows.names[asset],
            first_row=int(rows.order[first]),
            last_row=int(rows.order[last]),
            first_s=None if times is None else float(times[first]),
            last_s=None if times is None else float(times[last]),
        )
        for asset, first, last in zip(assets, events.first.tolist(), events.last.tolist(), strict=True)
    ]


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
    hit = found.raised >= 0
    at = np.where(hit, scored.place[found.raised], events.first)
    late_s = np.zeros(len(events)) if times is None else times[at] - times[events.first]
    columns = (found.was_open, hit, order[at], at - events.first, late_s, first, past)
    seen = []
    for was_open, is_hit, row, late, late_by, start, end in zip(*(column.tolist() for column in columns), strict=True):
        # Most events of a file with many have one row.
        peak = start if end - start == 1 else start + int(scored.score[start:end].argmax()) if end > start else None
        seen.append(
            EventSeen(
                found=is_hit,
                was_open=was_open,
                raised_row=row if is_hit else None,
                delay_rows=late if is_hit else None,
                delay_s=late_by if is_hit and times is not None else None,
                peak=None if peak is None else scored.score.item(peak),
                peak_row=None if peak is None else order.item(scored.place.item(peak)),
                shares=(),
            )
        )
    return tuple(seen)


def last_window(values: NDArray[np.float64], window: int, *, holds: bool) -> FloatArray | None:
    """The window that the last of some rows of an asset completes, as the agent makes it.

    Args:
        values: shape (rows, channels), NaN where a value is missing; a row without any is no reading.
        window: rows in it.
        holds: a missing value is the channel's last one; else it stays missing.

    Returns:
        Shape (window, channels); None where a channel had no value yet, or the rows are too few.
    """
    heard = values[~np.isnan(values).all(axis=1)]
    if len(heard) < window:
        return None
    if not holds:
        return heard[-window:].astype(np.float32)
    known = np.where(np.isnan(heard), -1, np.arange(len(heard))[:, np.newaxis])
    last = np.maximum.accumulate(known, axis=0)[-window:]
    if (last < 0).any():
        return None
    return heard[last, np.arange(heard.shape[1])].astype(np.float32)
