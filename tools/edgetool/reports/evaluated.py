"""The page of `edgetool evaluate`: tables, curves, histograms, and what happened when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.text import shown
from edgetool.extras import require
from edgetool.quality.alerts import Scored
from edgetool.reports.figures import LIMIT_HEAD, QUALITY_HEAD, limit_cells, number, quality_cells
from edgetool.reports.page import Page

if TYPE_CHECKING:
    from edgetool.commands.evaluate import DetectorQuality, EvaluateReport

__all__ = ["write_evaluate_page"]

_COLORS = ("#377eb8", "#e41a1c", "#4daf4a", "#984ea3", "#ff7f00", "#8c564b", "#17becf", "#7f7f7f")
_SIZE = {"width": 900, "height": 380}
_POINTS = 300
_BINS = 60
_TIMELINE_BINS = 700
_TIMELINES = 6
_EVENTS = 200
_SHARES = 5

Floats = NDArray[np.float64]


def write_evaluate_page(path: Path, report: EvaluateReport) -> None:
    """A page with all figures, the curves, and for each bundle the scores over time.

    Raises:
        ConversionError: the folder cannot be written.
        MissingExtraError: leather is not installed.
    """
    leather = require("leather", extra="reports")
    everyone = (*report.bundles, *report.baselines)
    events = len(report.labelled.events)
    best = report.bundles[0].own
    page = Page(f"evaluate {report.data}")
    page.verdict(f"{best.events_found} of {events} events", f"found by {report.bundles[0].name} at its own limit")
    page.text(f"Alerts are those of {report.judged_by.in_words()}.")
    page.heading("Whatever the limit")
    page.table(QUALITY_HEAD, [quality_cells(quality) for quality in everyone])
    page.heading("At three limits")
    page.table(LIMIT_HEAD, [limit_cells(quality.name, at, events) for quality in everyone for at in quality.limits])
    page.text(
        "A baseline knows nothing of the machine, and its limits come from the normal rows of this very file. What "
        "does not beat it by far is not worth a device.",
        kind="note",
    )
    page.heading("Curves")
    page.picture(_curves(leather, "found of labelled rows, by normal rows in alarm", everyone, _roc))
    page.picture(_curves(leather, "precision by recall", everyone, _precision_recall))
    for quality in report.bundles:
        page.heading(quality.name)
        page.picture(_histogram(leather, quality))
        for svg in _timelines(leather, quality, report):
            page.picture(svg)
        _events_table(page, quality, report)
    page.write(path)


def _events_table(page: Page, quality: DetectorQuality, report: EvaluateReport) -> None:
    rows, missed = [], []
    for place, (span, event) in enumerate(zip(report.spans()[:_EVENTS], quality.events, strict=False)):
        if not event.found:
            missed.append(place)
        late = "" if event.delay_rows is None else f" after {event.delay_rows} rows"
        verdict = f"found{late}" if event.found else "an alert was open before" if event.was_open else "missed"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in event.shares[:_SHARES])
        rows.append((span.in_words(), verdict, number(event.peak, ".4g"), shares or "-"))
    page.table(("event", "at the own limit", "highest score", "channels' shares of it"), rows, marked=missed)
    if len(quality.events) > _EVENTS:
        page.text(f"{len(quality.events) - _EVENTS} more events are in --json.", kind="note")


def _roc(quality: DetectorQuality) -> tuple[Floats, Floats]:
    return quality.curves.false_positives, quality.curves.recall


def _precision_recall(quality: DetectorQuality) -> tuple[Floats, Floats]:
    return quality.curves.recall, quality.curves.precision


def _curves(
    leather: Any,
    title: str,
    everyone: Sequence[DetectorQuality],
    curve: Callable[[DetectorQuality], tuple[Floats, Floats]],
) -> str:
    chart = leather.Chart(title)
    chart.add_x_scale(0, 1)
    chart.add_y_scale(0, 1)
    for place, quality in enumerate(everyone):
        x, y = curve(quality)
        # Close together where few rows reach the limit, which is where limits are.
        spread = [shape(1, len(x), _POINTS) for shape in (np.geomspace, np.linspace)]
        at = np.unique(np.concatenate(spread).astype(int)) - 1
        first = 0.0 if curve is _roc else float(y[0])
        points = [(0.0, first), *zip(x[at].tolist(), y[at].tolist(), strict=True), (1.0, float(y[-1]))]
        chart.add_line(points, name=shown(quality.name), stroke_color=_COLORS[place % len(_COLORS)])
    return _svg(chart)


def _scale_of(scores: NDArray[np.floating], alarm: float) -> tuple[Callable[[Any], Any], str]:
    """How scores are drawn: by their logarithm where all are above 0, since some may be a million times the usual."""
    if scores.min() > 0 and alarm > 0:
        return np.log10, "score, as a power of 10"
    return lambda values: values, "score"


def _histogram(leather: Any, quality: DetectorQuality) -> str:
    scores = quality.scored.score.astype(np.float64)
    drawn, axis = _scale_of(scores, quality.own.alarm)
    values, limit = drawn(scores), float(drawn(quality.own.alarm))
    edges = np.linspace(min(values.min(), limit), max(values.max(), limit) + 1e-9, _BINS + 1)
    chart = leather.Chart("scores of normal and of labelled rows, and the limit")
    highest = 0.0
    for name, label, color in (("normal", 0, _COLORS[0]), ("labelled", 1, _COLORS[1])):
        mine = values[quality.scored.label == label]
        if mine.size:
            shares = np.histogram(mine, edges)[0] / len(mine)
            highest = max(highest, float(shares.max()))
            steps = zip(np.repeat(edges, 2)[1:-1].tolist(), np.repeat(shares, 2).tolist(), strict=True)
            chart.add_line(list(steps), name=name, stroke_color=color)
    chart.add_line([(limit, 0.0), (limit, highest)], name="limit", stroke_color="#333")
    _scales(chart, (float(edges[0]), float(edges[-1])), (0.0, highest))
    chart.add_x_axis(name=axis)
    chart.add_y_axis(name="share of rows")
    return _svg(chart)


def _timelines(leather: Any, quality: DetectorQuality, report: EvaluateReport) -> list[str]:
    """Scores, labels and alerts over time, of the first assets with an event; of the first asset if none has one."""
    labelled, scored = report.labelled, quality.scored
    assets = labelled.rows.asset_of(scored.place)
    wanted = np.unique(labelled.rows.asset_of(labelled.events.first))[:_TIMELINES]
    raised = quality.alerts.raised
    drawings = []
    for asset in wanted.tolist() or [int(assets[0])]:
        mine = np.flatnonzero(assets == asset)
        if mine.size:
            place = scored.place[mine]
            at = labelled.times[place] if labelled.times is not None else place - labelled.rows.starts[asset]
            hours = (at - at[0]) / 3600 if labelled.times is not None else at.astype(np.float64)
            unit = "hours" if labelled.times is not None else "rows"
            alerts = np.isin(mine, raised)
            title = f"{labelled.rows.names[asset]}: highest scores, over {unit}"
            drawings.append(_timeline(leather, title, hours, scored, mine, alerts, quality.own.alarm))
    return drawings


def _timeline(
    leather: Any,
    title: str,
    at: Floats,
    scored: Scored,
    mine: NDArray[np.int64],
    alerts: NDArray[np.bool_],
    alarm: float,
) -> str:
    drawn, axis = _scale_of(scored.score, alarm)
    values, limit = drawn(scored.score[mine].astype(np.float64)), float(drawn(alarm))
    starts = np.unique(np.linspace(0, len(mine), _TIMELINE_BINS, endpoint=False).astype(int))
    highest = np.maximum.reduceat(values, starts)
    when = at[starts]
    marked = np.maximum.reduceat(scored.label[mine], starts) == 1
    told = np.maximum.reduceat(alerts, starts)
    chart = leather.Chart(shown(title))
    chart.add_line(_line(when, highest), name="score", stroke_color=_COLORS[0], width=1)
    chart.add_line([(float(when[0]), limit), (float(at[-1]), limit)], name="limit", stroke_color="#333", width=1)
    top = max(float(highest.max()), limit)
    for name, chosen, height, color in (
        ("labelled", marked, highest, _COLORS[1]),
        ("alert raised", told, np.full(len(when), top), _COLORS[4]),
    ):
        if chosen.any():
            chart.add_dots(
                list(zip(when[chosen].tolist(), height[chosen].tolist(), strict=True)), name=name, fill_color=color
            )
    _scales(chart, (float(at[0]), float(at[-1])), (min(float(highest.min()), limit), top))
    chart.add_y_axis(name=axis)
    return _svg(chart)


def _line(x: Floats, y: Floats) -> list[tuple[float, float]]:
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    # One point is no line.
    return points if len(points) > 1 else points * 2


def _scales(chart: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    """What is all the same still has a place on an axis."""
    for add, (low, high) in ((chart.add_x_scale, x), (chart.add_y_scale, y)):
        add(low, high if high > low else low + 1)


def _svg(chart: Any) -> str:
    return str(chart.to_svg(**_SIZE))
