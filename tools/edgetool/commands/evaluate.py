"""`edgetool evaluate`: what bundles find of labelled events, and how often they cry wolf."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle, Manifest, Threshold
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import DataError, UsageError
from edge_agent.messages.scores import Engine
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.threshold import thresholds_from
from edgetool.data import DataSource, SensorData, read_sensor_data
from edgetool.detector.allowed import open_allowed
from edgetool.detector.misfits import doubts_about
from edgetool.detector.refusals import check_order
from edgetool.detector.rescored import files_for, open_engine, rescore
from edgetool.paths import StrPath, as_paths
from edgetool.quality.alerts import Alerts, Scored, hold_against
from edgetool.quality.baselines import BASELINES, baseline_scores
from edgetool.quality.judge import AtLimit, Labelled, judge
from edgetool.quality.limits import limit_at, rates_beside
from edgetool.quality.metrics import VUS_WIDTH, Curves, Surface, rank
from edgetool.quality.rows import EVENT_GAP, AssetRows
from edgetool.quality.seen import EventSeen, EventSpan, events_seen, last_window, spans_of
from edgetool.quality.told import EACH_ALERT, ToldAlerts, for_baselines, without_doubts

__all__ = ["DetectorQuality", "EvaluateReport", "JudgedBy", "evaluate"]

_TABLES = ("window", "alarm", "commission")
"""Of a stream's settings, those that make windows and alerts of a file."""
_EXPLAINED = 200
"""Most events whose peaks are scored once more for the channels' shares."""
_LOOKS_BACK = 4096
"""Rows before a window in which the last value of a channel is looked for."""
_SAME = 1e-3
"""Share by which the score of a window that was found again may be off its peak."""


@dataclass(frozen=True, slots=True)
class DetectorQuality:
    """How good one bundle, or one baseline, is."""

    name: str
    """File name of the bundle, or name of the baseline."""
    manifest: Manifest | None
    """None for a baseline."""
    scored: Scored
    not_finite: int
    """Scores that are no number; an agent passes over them, and so do all figures."""
    curves: Curves
    roc_auc: float | None
    average_precision: float | None
    vus_pr: float | None
    """None, like the two above, where all rows have one label."""
    limits: tuple[AtLimit, ...]
    """At ten times the own false-alarm rate, at the own one, and at a tenth; the own one alone where a bundle does not
    say what normal scores are."""
    own: AtLimit
    """The one of `limits` that the bundle has."""
    alerts: Alerts
    """Those at the own limit."""
    events: tuple[EventSeen, ...]
    """In the order of the report's events; empty for a baseline."""

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        manifest = self.manifest
        return {
            "name": self.name,
            "kind": "baseline" if manifest is None else "bundle",
            "version": None if manifest is None else manifest.version,
            "precision_form": None if manifest is None else manifest.model.precision,
            "window": self.scored.window,
            "scored": len(self.scored.score),
            "not_finite": self.not_finite,
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
            "vus_pr": self.vus_pr,
            "limits": [limit.describe() for limit in self.limits],
            "own_limit": self.own.describe(),
            "events": [event.describe() for event in self.events],
        }


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """The settings by which windows and alerts were made."""

    config: str | None
    """The configuration that they are of; None for the default settings, with each alert told."""
    stream: str | None
    settings: StreamSettings

    def in_words(self) -> str:
        """Whose settings, and what in them is no default."""
        if self.config is None:
            return "an agent with the default settings, each one told (alarm.flap_raises = 0)"
        mine, usual = self.describe(), replace(self, settings=StreamSettings()).describe()
        found = [
            f"{table}.{key} = {value}"
            for table in _TABLES
            for key, value in mine[table].items()
            if value != usual[table][key]
        ]
        return f"stream {self.stream!r} of {self.config}: {', '.join(found) or 'the default settings'}"

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document: all settings, by the tables of `[[stream]]`."""
        tables = {table: msgspec.to_builtins(getattr(self.settings, table)) for table in _TABLES}
        return {"config": self.config, "stream": self.stream, **tables}


@dataclass(frozen=True, slots=True)
class EvaluateReport:
    """What bundles, and baselines beside them, make of labelled data."""

    data: str
    """The file that was read, the first of several."""
    labelled: Labelled
    event_gap: int
    vus_width: int
    judged_by: JudgedBy
    of_data: tuple[str, ...]
    """What in the rows is another than a bundle expects, in words."""
    bundles: tuple[DetectorQuality, ...]
    baselines: tuple[DetectorQuality, ...]
    seconds: float

    def spans(self) -> list[EventSpan]:
        """Where each event is."""
        return spans_of(self.labelled)

    def warnings(self) -> list[str]:
        """What to know before trusting the figures, a line each."""
        found = list(self.of_data)
        for quality in self.bundles:
            if quality.not_finite:
                found.append(f"{quality.not_finite} scores of {quality.name} are no number, and are left out")
            if quality.manifest is not None and self.judged_by.config is not None:
                settings = self.judged_by.settings
                asked = (
                    settings.problem_with,
                    settings.problem_with_missing,
                    settings.remark_on,
                    settings.remark_on_interval,
                    settings.remark_on_missing,
                )
                found += [f"{quality.name}: {text}" for ask in asked if (text := ask(quality.manifest))]
        return found

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        labelled = self.labelled
        return {
            "data": self.data,
            "rows": len(labelled.labels),
            "labelled_rows": int(labelled.labels.sum()),
            "assets": len(labelled.rows.names),
            "normal_days": labelled.normal_days,
            "event_gap": self.event_gap,
            "vus_width": self.vus_width,
            "settings": self.judged_by.describe(),
            "events": [span.describe() for span in self.spans()],
            "bundles": [quality.describe() for quality in self.bundles],
            "baselines": [quality.describe() for quality in self.baselines],
            "warnings": self.warnings(),
            "seconds": round(self.seconds, 3),
        }


def evaluate(
    bundles: StrPath | Sequence[StrPath] = (),
    *,
    data: DataSource,
    config: StrPath | None = None,
    stream: str | None = None,
    event_gap: int = EVENT_GAP,
    vus_width: int = VUS_WIDTH,
    custom_ops: StrPath | Sequence[StrPath] = (),
) -> EvaluateReport:
    """Score labelled rows as the agent would, and hold scores and alerts against the labels.

    Args:
        bundles: one bundle or several, all for this file; with `config`, none is the stream's own.
        data: rows with the column `label`, 1 for an anomaly.
        config: an agent's configuration, for the windows, the alarm and the commissioning of one of its streams; None
            for the default settings, with each alert told.
        stream: its name; None is right where the configuration has one only.
        event_gap: so many normal rows between two labelled ones of an asset do not split an event.
        vus_width: largest width of VUS-PR, rows.
        custom_ops: libraries that a bundle names, which may be loaded; with `config`, in place of those that it allows.

    Raises:
        BundleError: a bundle cannot be read.
        ConfigError: the configuration cannot be read, has problems, or does not allow a library.
        DataError: the data cannot be read, have no labels, lack a channel, or complete no window.
        EngineError: the runtime failed.
        UsageError: no bundle is given, the configuration has several streams and none is named, a number cannot be
            meant, or a library is missing, or not needed.
    """
    started = time.monotonic()
    paths = as_paths(bundles)
    judged_by, of_stream, engine_settings = _judged_by(None if config is None else Path(config), stream)
    if not paths and of_stream is None:
        raise UsageError("evaluate: expected at least one bundle, or --config for the one of a stream")
    paths = paths or [Path(str(of_stream))]
    if event_gap < 0 or vus_width < 0:
        raise UsageError(f"event_gap = {event_gap}, vus_width = {vus_width}: expected 0 or more")
    opened = open_allowed(paths, as_paths(custom_ops), engine_settings)
    files = files_for(data, opened)
    with ThreadPoolExecutor(max_workers=2) as aside, without_doubts():
        # Beside the reading, and then beside the scoring: one core would wait for the file and for the runtime.
        proven = [aside.submit(open_engine, bundle) for bundle in opened]
        rows = read_sensor_data(files)
        check_order(rows)
        engines = [engine.result() for engine in proven]
        labelled = _labelled(rows, event_gap)
        labels = _Labels(labelled, vus_width)
        used = {channel.name: None for bundle in opened for channel in bundle.manifest.channels}
        values = labelled.rows.by_place(rows.select(tuple(used)).values)
        every = labelled.scored(np.arange(len(values)), np.zeros(len(values), dtype=np.float32), 1)
        manifest, settings = opened[0].manifest, judged_by.settings
        plain = ToldAlerts(for_baselines(settings), manifest, engines[0], labelled, np.empty(0, dtype=np.int64))
        beside = [aside.submit(_judge_baseline, name, values, every, plain, labels) for name in BASELINES]
        pairs = zip(opened, engines, strict=True)
        judged = tuple(_judge_bundle(bundle, engine, rows, settings, labels) for bundle, engine in pairs)
        baselines = tuple(each.result() for each in beside)
    return EvaluateReport(
        data=str(files),
        labelled=labelled,
        event_gap=event_gap,
        vus_width=vus_width,
        judged_by=judged_by,
        of_data=tuple(doubts_about(rows, opened, is_resampled=bool(settings.window.every_s))),
        bundles=judged,
        baselines=baselines,
        seconds=time.monotonic() - started,
    )


def _judged_by(config: Path | None, stream: str | None) -> tuple[JudgedBy, str | None, EngineSettings | None]:
    """The settings to judge by, the bundle that they are used with, and those of its engine."""
    if config is None:
        if stream is not None:
            raise UsageError("evaluate: --stream names a stream of a configuration, so it needs --config")
        return JudgedBy(None, None, EACH_ALERT), None, None
    from edge_agent.config.offline import load_offline, stream_of

    loaded = load_offline(config)
    section = stream_of(loaded, stream, "evaluate")
    return JudgedBy(str(config), section.name, section.settings), section.bundle, loaded.engine


class _Labels:
    """The labels, with what was computed from them for the last detector: most of the next ones score the same rows."""

    def __init__(self, labelled: Labelled, width: int) -> None:
        self.labelled = labelled
        self._width = width
        self._surface: Surface | None = None
        self._lock = Lock()

    def surface(self, scored: Scored) -> Surface:
        with self._lock:
            if self._surface is None or not self._surface.fits(scored.label, scored.starts):
                self._surface = Surface(scored.label, scored.starts, width=self._width)
            return self._surface


def _labelled(rows: SensorData, gap: int) -> Labelled:
    if rows.labels is None:
        raise DataError(
            f"{rows.path}: has no column 'label'; mark the rows of known anomalies with 1 and the normal ones with 0"
        )
    order = AssetRows.of(rows.assets, len(rows))
    labels = order.by_place(rows.labels)
    times = None if rows.times is None else order.by_place(rows.times)
    return Labelled.of(order, labels, times, gap=gap)


def _judge_bundle(
    bundle: Bundle, engine: Engine, rows: SensorData, settings: StreamSettings, labels: _Labels
) -> DetectorQuality:
    manifest, labelled = bundle.manifest, labels.labelled
    made = rescore(bundle, rows, engine, settings)
    scored = labelled.scored(labelled.rows.places[made.rows], made.scores, made.window)
    told = ToldAlerts(settings, manifest, engine, labelled, made.begun)
    rated = manifest.calibration
    limits = [(manifest.threshold, None if rated is None else rated.false_alarm_rate)]
    if rated is not None:
        beside = rates_beside(rated.false_alarm_rate)
        limits = [(limit_at(rate, manifest.threshold, rated), rate) for rate in beside]
    whole = _quality(bundle.path.name, scored, rank(scored.score, scored.label), limits, told, labels)
    values = rows.select(tuple(channel.name for channel in manifest.channels)).values
    events = events_seen(scored, hold_against(scored, whole.alerts, labelled.events), labelled)
    events = _explain(events, manifest, values, labelled, made.engine)
    return replace(whole, manifest=manifest, not_finite=len(made.scores) - len(scored.score), events=events)


def _judge_baseline(
    name: str, values: NDArray[np.float64], every: Scored, told: ToldAlerts, labels: _Labels
) -> DetectorQuality:
    """A baseline at the same rates as the first bundle, its limits from the normal rows of the very same file."""
    scored = replace(every, score=baseline_scores(name, values, labels.labelled.rows.starts))
    curves = rank(scored.score, scored.label)
    normal = curves.normal_scores()[::-1].astype(np.float64)
    if not normal.size:
        normal = np.ones(1)
    rates = rates_beside(told.manifest.false_alarm_rate)
    return _quality(name, scored, curves, list(zip(thresholds_from(normal, rates), rates, strict=True)), told, labels)


def _quality(
    name: str,
    scored: Scored,
    curves: Curves,
    limits: Sequence[tuple[Threshold, float | None]],
    told: ToldAlerts,
    labels: _Labels,
) -> DetectorQuality:
    """All that needs nothing but scores and limits; the own limit is the one in the middle."""
    # Without commissioning the rate says nothing, and the limits of `always` are one.
    keys = [(limit, rate if told.settings.commission.readings else None) for limit, rate in limits]
    known = {key: told.at(scored, *key) for key in dict.fromkeys(keys)}
    alerts = [known[key] for key in keys]
    pairs = zip(limits, alerts, strict=True)
    judged = [judge(scored, limit, rate, labels.labelled, alerts=found) for (limit, rate), found in pairs]
    return DetectorQuality(
        name=name,
        manifest=None,
        scored=scored,
        not_finite=0,
        curves=curves,
        roc_auc=curves.roc_auc,
        average_precision=curves.average_precision,
        vus_pr=labels.surface(scored).vus_pr(scored.score, curves),
        limits=tuple(judged),
        own=judged[len(judged) // 2],
        alerts=alerts[len(alerts) // 2],
        events=(),
    )


def _explain(
    events: tuple[EventSeen, ...],
    manifest: Manifest,
    values: NDArray[np.float64],
    labelled: Labelled,
    engine: Engine,
) -> tuple[EventSeen, ...]:
    """Add the channels' shares of each event's peak, where its window is found in the file: one of readings that a
    stream makes of several rows is not.

    What a model with state was given back there is not known any more, so it has none.
    """
    if manifest.model.state_size:
        return events
    order, places, starts = labelled.rows.order, labelled.rows.places, labelled.rows.starts
    windows, which = [], []
    for number, event in enumerate(events[:_EXPLAINED]):
        if event.peak_row is None:
            continue
        place = places[event.peak_row : event.peak_row + 1]
        start = int(starts[labelled.rows.asset_of(place)[0]])
        rows = values[order[max(start, int(place[0]) - _LOOKS_BACK - manifest.window) : int(place[0]) + 1]]
        window = last_window(rows, manifest.window, holds=not manifest.takes_missing)
        if window is not None:
            windows.append(window)
            which.append(number)
    answer = engine.score(np.stack(windows)) if windows else None
    if answer is None or answer.contributions is None:
        return events
    explained = list(events)
    for number, score, parts in zip(which, answer.score.tolist(), answer.contributions, strict=True):
        peak = events[number].peak
        if peak is None or not np.isclose(score, peak, rtol=_SAME):
            continue
        total = float(parts.sum()) or 1.0
        pairs = zip((channel.name for channel in manifest.channels), (parts / total).tolist(), strict=True)
        ranked = tuple(sorted(pairs, key=lambda pair: -pair[1]))
        explained[number] = replace(explained[number], shares=ranked)
    return tuple(explained)
