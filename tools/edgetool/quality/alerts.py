"""The alerts that scores raise at a limit, and what they find of the labelled events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Threshold
from edgetool.quality.rows import Events

__all__ = ["Alerts", "Found", "Scored", "alerts_at", "hold_against"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores with the places that they are of; each array has shape (scores,) unless it says otherwise."""

    place: Ints
    """Ascending. Rows that complete no window have no score, so places may be left out."""
    score: NDArray[np.float32]
    """Higher is more anomalous; finite."""
    label: Ints
    """1 if the row is labelled, or one before it that no earlier score has seen."""
    starts: Ints
    """Shape (assets,), ascending from 0: the number of the score with which each asset begins."""
    window: int
    """Rows that a score looks at."""
    labelled: Ints
    """Shape (scores + 1,): how many of the scores before each are labelled, and of all."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """Alerts in the order of their raise; both arrays have shape (alerts,)."""

    raised: Ints
    """Number of the score that raised it."""
    ended: Ints
    """Number of the score that cleared it, or one more than the asset's last."""


def alerts_at(scored: Scored, limit: Threshold) -> Alerts:
    """The alerts of an agent with its default settings, each one told: raised at `alarm`, cleared below `clear`.

    The same as `edge_agent.stream.alarm` says, for all limits that are compared, in one pass over an array; a test
    compares them.
    """
    # Between two scores below `clear`, and within an asset, there is one alert at most: from the first high score on.
    kept = scored.score >= limit.clear
    begins, ends = kept.copy(), kept.copy()
    begins[1:] &= ~kept[:-1]
    ends[:-1] &= ~kept[1:]
    begins[scored.starts] = kept[scored.starts]
    ends[scored.starts[1:] - 1] = kept[scored.starts[1:] - 1]
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    high = np.flatnonzero(scored.score >= limit.alarm)
    raised = np.append(high, len(kept))[np.searchsorted(high, first)]
    has_alert = raised <= last
    return Alerts(raised[has_alert], last[has_alert] + 1)


@dataclass(frozen=True, slots=True)
class Found:
    """What alerts find; the arrays have shape (events,)."""

    raised: Ints
    """Number of the score that raised the first alert of each event, -1 if none was raised in it."""
    was_open: NDArray[np.bool_]
    """True if none was raised in it, and one that was raised before it was still open."""
    false: Ints
    """Shape (false alerts,): numbers of the scores that raised an alert outside of every event."""
    precision: float | None
    """Share of labelled rows among those in alarm; None without one in alarm."""
    recall: float | None
    """Share of labelled rows that are in alarm; None without a labelled row."""


def hold_against(scored: Scored, alerts: Alerts, events: Events) -> Found:
    """Hold alerts against events.

    An alert is an event's if it is raised from the event's first row on until no window holds a row of the event any
    more. An alert that was open before says nothing of it: one that never ends would find all.
    """
    in_alarm = int(np.sum(alerts.ended - alerts.raised))
    true = int(np.sum(scored.labelled[alerts.ended] - scored.labelled[alerts.raised]))
    all_labelled = int(scored.labelled[-1])
    place = scored.place[alerts.raised]
    event = np.searchsorted(events.first, place, side="right") - 1
    until = np.minimum(events.last + scored.window - 1, events.bound)
    its = event >= 0
    its[its] = place[its] <= until[event[its]]
    raised = np.full(len(events), -1, dtype=np.int64)
    # Backwards, so that the first one stays.
    raised[event[its][::-1]] = alerts.raised[its][::-1]
    first = np.searchsorted(scored.place, events.first)
    past = np.searchsorted(scored.place, events.last, side="right")
    # The last alert that was raised before an event is over is open in it unless it was cleared before it began.
    last = np.searchsorted(alerts.raised, past) - 1
    open_until = np.append(alerts.ended, 0)[last]
    return Found(
        raised=raised,
        was_open=(raised < 0) & (last >= 0) & (open_until > first) & (past > first),
        false=alerts.raised[~its],
        precision=true / in_alarm if in_alarm else None,
        recall=true / all_labelled if all_labelled else None,
    )
