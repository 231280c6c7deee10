"""What a detector finds of the rows that its author has labelled, before it becomes a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Quality, Threshold
from edge_agent.errors import AccuracyError, UsageError
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.window_settings import WindowSettings
from edgetool.data import SensorData, windows_with_rows

# Most data have no labels.
if TYPE_CHECKING:
    from edgetool.quality.judge import Labelled
    from edgetool.quality.seen import EventSeen, EventSpan

__all__ = ["MAX_AUC_DROP", "LabelledQuality", "quality_of"]

MAX_AUC_DROP = 0.005
"""Default of `--max-auc-drop`."""


@dataclass(frozen=True, slots=True)
class LabelledQuality:
    """What was found, in all and event by event."""

    quality: Quality
    events: tuple[tuple[EventSpan, EventSeen], ...]
    reference_auc: float | None
    """ROC-AUC of the float32 reference; None without one, or where `quality.roc_auc` is None."""

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        return {
            "reference_roc_auc": self.reference_auc,
            "events": [
                {"asset": span.asset, "first_row": span.first_row, "last_row": span.last_row, **seen.describe()}
                for span, seen in self.events
            ],
        }


def quality_of(
    rows: SensorData,
    threshold: Threshold,
    score: Callable[[FloatArray], FloatArray],
    reference: Callable[[FloatArray], FloatArray] | None,
    *,
    window: int,
    stride: int,
    policy: WindowSettings | None,
    path: Path,
    max_auc_drop: float,
) -> LabelledQuality | None:
    """Hold a detector against its author's labels.

    Args:
        rows: with the labelled ones.
        threshold: the limits.
        score: gives the scores, shape (n,), of windows of shape (n, window, channels).
        reference: the same of the float32 reference; None without one.
        window: rows in a window.
        stride: readings from one window to the next.
        policy: what becomes of missing values; None holds the last ones.
        path: of the model, for errors.
        max_auc_drop: so much may the ROC-AUC be below that of the reference.

    Returns:
        None where no row is labelled.

    Raises:
        AccuracyError: the ROC-AUC fell further.
        UsageError: `max_auc_drop` is no share.
    """
    if not 0 <= max_auc_drop <= 1:
        raise UsageError(f"--max-auc-drop {max_auc_drop:g}: expected a share from 0 to 1")
    if rows.labels is None or not rows.labels.any():
        return None
    from edgetool.quality.alerts import alerts_at, hold_against
    from edgetool.quality.judge import Labelled, judge
    from edgetool.quality.metrics import rank
    from edgetool.quality.rows import AssetRows
    from edgetool.quality.seen import events_seen, spans_of

    order = AssetRows.of(rows.assets, len(rows))
    times = None if rows.times is None else order.by_place(rows.times)
    labelled = Labelled.of(order, order.by_place(rows.labels), times)
    windows, completed_by = windows_with_rows(rows, window=window, stride=stride, policy=policy)
    places = order.places[completed_by]
    scored = labelled.scored(places, score(windows), window)
    if not scored.score.size:
        return None
    curves = rank(scored.score, scored.label)
    reference_auc = None if reference is None else _auc(labelled, places, reference(windows), window)
    _check_drop(path, curves.roc_auc, reference_auc, max_auc_drop)
    at = judge(scored, threshold, None, labelled)
    quality = Quality(
        rows=len(scored.score),
        events=len(labelled.events),
        events_found=at.events_found,
        false_alerts=at.false_alerts,
        false_alerts_per_day=at.false_alerts_per_day,
        roc_auc=curves.roc_auc,
        average_precision=curves.average_precision,
    )
    seen = events_seen(scored, hold_against(scored, alerts_at(scored, threshold), labelled.events), labelled)
    return LabelledQuality(quality, tuple(zip(spans_of(labelled), seen, strict=True)), reference_auc)


def _auc(labelled: Labelled, places: NDArray[np.int64], scores: FloatArray, window: int) -> float | None:
    from edgetool.quality.metrics import rank

    scored = labelled.scored(places, scores, window)
    return rank(scored.score, scored.label).roc_auc if scored.score.size else None


def _check_drop(path: Path, found: float | None, reference: float | None, most: float) -> None:
    if found is None or reference is None or reference - found <= most:
        return
    raise AccuracyError(
        f"{path}: ranks the labelled rows worse than its reference does: ROC-AUC {found:.4f}, expected "
        f"{reference - most:.4f} or more; pack another form of the model, or allow it with --max-auc-drop "
        f"{np.ceil((reference - found) * 1000) / 1000:g}"
    )
