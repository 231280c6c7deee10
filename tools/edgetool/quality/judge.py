"""What a detector finds at a limit, and how often it cries wolf."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Threshold
from edgetool.quality.alerts import Alerts, Scored, alerts_at, hold_against
from edgetool.quality.rows import EVENT_GAP, AssetRows, Events, find_events, median_of, watched_s

__all__ = ["AtLimit", "Labelled", "judge"]

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of a file by place, with what they were labelled."""

    rows: AssetRows
    labels: NDArray[np.int64]
    """Shape (rows,), 1 for an anomaly."""
    times: NDArray[np.float64] | None
    """Shape (rows,), epoch seconds; None where the file has none."""
    events: Events
    normal_rows: int
    """How many rows are not labelled."""
    normal_days: float | None
    """For how long these lasted, all assets together; None where the times do not say."""

    @classmethod
    def of(
        cls, rows: AssetRows, labels: NDArray[np.int64], times: NDArray[np.float64] | None, *, gap: int = EVENT_GAP
    ) -> Labelled:
        """Put together what follows from labels and times, both by place; `gap` as of `find_events`."""
        normal = labels == 0
        days = None if times is None else watched_s(times, normal, rows) / DAY_S
        return cls(rows, labels, times, find_events(labels, rows, gap=gap), int(np.count_nonzero(normal)), days or None)

    def scored(self, places: NDArray[np.int64], scores: NDArray[np.float32], window: int) -> Scored:
        """The finite scores in order of place, with their labels.

        Args:
            places: shape (scores,), of the rows that the scores are of, each once.
            scores: shape (scores,).
            window: rows that each looks at.
        """
        kept = np.isfinite(scores)
        if not kept.all():
            places, scores = places[kept], scores[kept]
        place, score = places, scores
        if (places[1:] < places[:-1]).any():
            order = np.argsort(places, kind="stable")
            place, score = places[order], scores[order]
        # An asset without a score would begin where the next one does.
        starts = np.searchsorted(place, self.rows.starts)
        starts = starts[np.diff(starts, append=len(place)) > 0]
        labels = self.labels
        if len(place) < len(labels):
            before = np.empty_like(place)
            before[1:] = place[:-1] + 1
            before[starts] = self.rows.starts[self.rows.asset_of(place[starts])]
            seen = _counts(labels)
            labels = (seen[place + 1] > seen[before]).astype(np.int64)
        return Scored(place, score, labels, starts, window, _counts(labels))


@dataclass(frozen=True, slots=True)
class AtLimit:
    """What alerts find at one limit."""

    false_alarm_rate: float | None
    """The rate that the limit was made for, share of normal windows; None where nobody says."""
    alarm: float
    clear: float
    events_found: int
    events_open: int
    """Events in which no alert was raised, because one from before was still open; they do not count as found."""
    false_alerts: int
    """Alerts that were raised outside of all events."""
    false_alerts_per_day: float | None
    """For one asset that is normal all day; None where the file does not say how long it lasts."""
    false_alerts_per_1000_rows: float | None
    """Of normal rows; None without any."""
    delay_rows_median: float | None
    """From the first row of an event to the row that raises its alert, of the events that are found."""
    delay_rows_max: float | None
    delay_s_median: float | None
    """The same in seconds; None where the file has no times."""
    delay_s_max: float | None
    precision: float | None
    """Share of labelled rows among the rows in alarm; None without one in alarm."""
    recall: float | None
    """Share of the labelled rows that are in alarm; None without a labelled row."""

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        return asdict(self)


def judge(
    scored: Scored, limit: Threshold, rate: float | None, data: Labelled, *, alerts: Alerts | None = None
) -> AtLimit:
    """Hold the alerts that scores raise at a limit against the labels.

    Args:
        scored: the scores.
        limit: alarm and clear limit.
        rate: what the limit was made for, share of normal windows; None if unknown.
        data: the labels.
        alerts: that the scores raise; None for those that the default settings would.
    """
    found = hold_against(scored, alerts_at(scored, limit) if alerts is None else alerts, data.events)
    hit = found.raised >= 0
    first, at = data.events.first[hit], scored.place[found.raised[hit]]
    late_rows = at - first
    late_s = None if data.times is None else data.times[at] - data.times[first]
    false = len(found.false)
    days = data.normal_days
    return AtLimit(
        false_alarm_rate=rate,
        alarm=limit.alarm,
        clear=limit.clear,
        events_found=int(hit.sum()),
        events_open=int(found.was_open.sum()),
        false_alerts=false,
        false_alerts_per_day=None if days is None else false / days,
        false_alerts_per_1000_rows=1000 * false / data.normal_rows if data.normal_rows else None,
        delay_rows_median=median_of(late_rows),
        delay_rows_max=float(late_rows.max()) if late_rows.size else None,
        delay_s_median=None if late_s is None else median_of(late_s),
        delay_s_max=None if late_s is None or not late_s.size else float(late_s.max()),
        precision=found.precision,
        recall=found.recall,
    )


def _counts(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows before each are labelled, and of all: shape (rows + 1,)."""
    counts = np.zeros(len(labels) + 1, dtype=np.int64)
    np.cumsum(labels, out=counts[1:])
    return counts
