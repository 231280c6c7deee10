"""What the demo's alerts should have been, and what of it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.event import AlertEvent

__all__ = ["Episode", "RowsFound", "StretchesFound", "episodes", "judge_rows", "judge_stretches"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert from raise to clear, epoch seconds; `end_s` is infinity while it is not cleared."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class RowsFound:
    """Single rows: an anomalous one is found, a normal one falsely alarmed, when it lies in an episode."""

    anomalous: int
    found: int
    normal: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class StretchesFound:
    """Stretches of rows: one is found when an episode begins in it; any other episode is a false alert."""

    stretches: int
    found: int
    false_alerts: int


def episodes(events: Sequence[AlertEvent]) -> list[Episode]:
    """Alerts from their raise and clear events, in order of their start."""
    raised = {event.id: _seconds(event.time) for event in events if event.event in ("raise", "flapping")}
    cleared = {event.id: _seconds(event.time) for event in events if event.event == "clear"}
    return sorted(
        (Episode(start, cleared.get(name, np.inf)) for name, start in raised.items()), key=lambda e: e.start_s
    )


def judge_rows(alerts: Sequence[Episode], times: NDArray[np.float64], labels: NDArray[np.int64]) -> RowsFound:
    """Hold alerts against row labels; both arrays have shape (rows,), times ascending."""
    alarmed = np.zeros(len(times), dtype=bool)
    for alert in alerts:
        # Event times carry milliseconds.
        alarmed[np.searchsorted(times, alert.start_s - 1e-3) : np.searchsorted(times, alert.end_s - 1e-3)] = True
    anomalous = labels == 1
    return RowsFound(
        anomalous=int(anomalous.sum()),
        found=int(alarmed[anomalous].sum()),
        normal=int((~anomalous).sum()),
        false_alarms=int(alarmed[~anomalous].sum()),
    )


def judge_stretches(
    alerts: Sequence[Episode], times: NDArray[np.float64], stretches: Sequence[tuple[int, int]], window: int
) -> StretchesFound:
    """Hold alerts against known stretches.

    Args:
        alerts: from `episodes`.
        times: shape (rows,), epoch seconds, ascending.
        stretches: first and last row of each. Rows around one belong to it: one before, where the flow already
            moves, and a window after, which still sees it.
        window: rows that the model looks at.
    """
    bounds = [(times[first - 1] - 1e-3, times[min(last + window, len(times) - 1)]) for first, last in stretches]
    hit = [any(start <= alert.start_s <= end for alert in alerts) for start, end in bounds]
    false = [alert for alert in alerts if not any(start <= alert.start_s <= end for start, end in bounds)]
    return StretchesFound(stretches=len(bounds), found=sum(hit), false_alerts=len(false))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
