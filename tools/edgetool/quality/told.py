"""The alerts that an agent would tell with the settings of a stream, by the agent's own alarm and commissioning."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Calibration, Manifest, Threshold
from edge_agent.messages.scores import Engine, Scores
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.alarm_state import Transition
from edge_agent.stream.outcome import WindowBatch
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import DriftSettings, StreamSettings
from edgetool.quality.alerts import Alerts, Scored, alerts_at
from edgetool.quality.judge import Labelled

__all__ = ["EACH_ALERT", "ToldAlerts", "for_baselines", "without_doubts"]

EACH_ALERT = StreamSettings(alarm=AlarmSettings(flap_raises=0))
"""The default settings, but each alert is told. `alerts_at` gives the alerts of these, in one pass over an array."""
_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True)
class ToldAlerts:
    """Finds the alerts of a detector's scores at any limit."""

    settings: StreamSettings
    """Its alarm and its commissioning count; windows are made already."""
    manifest: Manifest
    """Of the bundle; its limits are replaced."""
    engine: Engine
    """Is never asked."""
    labelled: Labelled
    begun: NDArray[np.int64]
    """Rows whose window is the first since it began anew: there, what is half confirmed begins anew too."""

    def at(self, scored: Scored, limit: Threshold, rate: float | None) -> Alerts:
        """The alerts of any level, each from its `raise` or `flapping` to its `clear`.

        Args:
            scored: the detector's scores.
            limit: the limits of all assets; with commissioning, of those whose scores say nothing.
            rate: the false-alarm rate at which commissioning makes limits; None for the bundle's.
        """
        settings = self.settings
        if (settings.alarm, settings.commission) == (EACH_ALERT.alarm, EACH_ALERT.commission):
            return alerts_at(scored, limit)
        pipeline = self._pipeline(limit, rate)
        raised: list[int] = []
        ended: list[int] = []
        for start, end in zip(scored.starts.tolist(), [*scored.starts[1:].tolist(), len(scored.score)], strict=True):
            for begin in range(start, end, _AT_ONCE):
                self._add(pipeline, scored, slice(begin, min(begin + _AT_ONCE, end)), raised, ended)
            if len(ended) < len(raised):
                ended.append(end)
        return Alerts(np.array(raised, dtype=np.int64), np.array(ended, dtype=np.int64))

    def _pipeline(self, limit: Threshold, rate: float | None) -> Pipeline:
        manifest = msgspec.structs.replace(self.manifest, threshold=limit, interval_s=None)
        if rate is not None:
            rated = manifest.calibration or Calibration(rows=0, false_alarm_rate=rate, quantiles={})
            manifest = msgspec.structs.replace(
                manifest, calibration=msgspec.structs.replace(rated, false_alarm_rate=rate)
            )
        return Pipeline(
            agent="offline",
            stream=manifest.name,
            manifest=manifest,
            engine=self.engine,
            provider="",
            settings=StreamSettings(
                alarm=self.settings.alarm, commission=self.settings.commission, drift=DriftSettings(block=0)
            ),
        )

    def _add(self, pipeline: Pipeline, scored: Scored, part: slice, raised: list[int], ended: list[int]) -> None:
        """Add the changes by some scores of one asset, which follow those before."""
        labelled, places = self.labelled, scored.place[part]
        rows = labelled.rows.order[places]
        # Without times, rows are a second apart, as for `edge-agent score`.
        times = rows.astype(np.float64) if labelled.times is None else labelled.times[places]
        asset = labelled.rows.names[labelled.rows.asset_of(places[:1])[0]]
        windows = WindowBatch(
            # Of the reading that raises an alert, only the alert's id is made.
            np.zeros((len(rows), 1, 1), dtype=np.float32),
            [asset] * len(rows),
            times.tolist(),
            {*np.flatnonzero(np.isin(rows, self.begun)).tolist()},
        )
        outcome = pipeline.apply_scores(windows, Scores(scored.score[part], None))
        for told in () if outcome.alerts is None else outcome.alerts.changes:
            if told.change.transition in {Transition.RAISE, Transition.FLAPPING}:
                raised.append(part.start + told.row)
            elif told.change.transition is Transition.CLEAR:
                ended.append(part.start + told.row)


def for_baselines(settings: StreamSettings) -> StreamSettings:
    """The same without a level `warn`, which is a score of the bundle."""
    return msgspec.structs.replace(settings, alarm=msgspec.structs.replace(settings.alarm, warn=None))


@contextmanager
def without_doubts() -> Iterator[None]:
    """A block in which limits of assets are made once for each limit that is judged, and not logged each time."""
    log = logging.getLogger("edge_agent.stream.commission")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled
