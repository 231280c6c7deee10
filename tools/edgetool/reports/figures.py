"""The figures of `edgetool evaluate` as cells of a table: for the terminal and for the page, and without onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetool.commands.evaluate import DetectorQuality
    from edgetool.quality.judge import AtLimit

__all__ = ["LIMIT_HEAD", "QUALITY_HEAD", "limit_cells", "number", "quality_cells"]

QUALITY_HEAD = ("detector", "ROC-AUC", "average precision", "VUS-PR", "scored")
LIMIT_HEAD = (
    "detector",
    "rate",
    "limit",
    "events found",
    "open before",
    "false alerts",
    "delay",
    "precision",
    "recall",
)


def quality_cells(quality: DetectorQuality) -> tuple[str, ...]:
    """A row below `QUALITY_HEAD`."""
    figures = (quality.roc_auc, quality.average_precision, quality.vus_pr)
    return (quality.name, *(number(figure, ".3f") for figure in figures), str(len(quality.scored.score)))


def limit_cells(name: str, at: AtLimit, events: int) -> tuple[str, ...]:
    """A row below `LIMIT_HEAD`."""
    if at.false_alerts_per_day is not None:
        false = f"{at.false_alerts_per_day:.3g} a day"
    else:
        false = f"{number(at.false_alerts_per_1000_rows, '.3g')} in 1000 rows"
    delay = f"{at.delay_rows_median:.4g} rows" if at.delay_rows_median is not None else "-"
    if at.delay_s_median is not None:
        delay = f"{at.delay_s_median:.4g} s"
    return (
        name,
        number(at.false_alarm_rate, "g"),
        f"{at.alarm:.4g}",
        f"{at.events_found} of {events}",
        str(at.events_open),
        false,
        delay,
        number(at.precision, ".3f"),
        number(at.recall, ".3f"),
    )


def number(value: float | None, form: str) -> str:
    """A figure in a form of `format`; a dash where there is none."""
    return "-" if value is None else format(value, form)
