"""The drift of one stream: its scores are counted, its alert is raised and cleared, and the journal keeps both."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.alarm import Transition
from edge_agent.stream.drift import DriftAlert, DriftReport, ScoreDrift
from edge_agent.stream.events import EventMaker
from edge_agent.stream.records import STREAM_RECORD, DriftRecord, decode_record, encode_record
from edge_agent.stream.settings import StreamSettings

__all__ = ["DriftWatch"]


class DriftWatch:
    """Watches a stream whose bundle has quantiles, unless the settings say not to.

    Args:
        settings: of the stream.
        manifest: of the bundle.
        events: makes the stream's events.
    """

    def __init__(self, settings: StreamSettings, manifest: Manifest, events: EventMaker) -> None:
        self._scorer = manifest.scorer
        self._events = events
        self._psi_limit = settings.drift.psi_limit
        self._drift = _make_drift(settings, manifest)
        self._alert: DriftAlert | None = None
        self._left: DriftRecord | None = None
        """What the journal has of an alert that nobody watches any more, until that is cleared there."""

    @property
    def has_alert(self) -> bool:
        """Whether a drift was raised and not cleared."""
        return self._alert is not None

    @property
    def report(self) -> DriftReport | None:
        """Of the last block; None before the first, and where nothing is watched."""
        return None if self._drift is None else self._drift.report

    def watch(self, times: Sequence[float], scores: FloatArray) -> tuple[list[tuple[int, AlertEvent]], bool]:
        """Count a batch.

        Args:
            times: of the windows' last readings, epoch seconds.
            scores: of the windows, shape (n,), n at least 1.

        Returns:
            The events, each with the row of the window that told it; and whether `records` gives something new, beside
            what has been counted.
        """
        if self._drift is None:
            return ([], False) if self._alert is None else ([(0, self._end(self._alert, times[0]))], True)
        told: list[tuple[int, AlertEvent]] = []
        row = None
        for row in self._drift.add(scores):
            event = self._at_block(self._drift, times[row])
            if event is not None:
                told.append((row, event))
        return told, row is not None

    def records(self) -> list[tuple[str, bytes]]:
        """The (asset, record) pair of what is counted, if it is: to be kept now and then.

        A batch that changes nothing else is not written, so a crash takes what was counted since the last one.
        """
        if self._drift is not None:
            counts, report = self._drift.dump()
            record = DriftRecord(scorer=self._scorer, counts=counts, report=report, alert=self._alert)
        elif self._left is not None:
            record = msgspec.structs.replace(self._left, alert=self._alert)
            if self._alert is None:
                self._left = None
        else:
            return []
        return [(STREAM_RECORD, encode_record(record))]

    def restore(self, dumped: bytes) -> None:
        """Put back what `records` gave; of another scorer only the alert, which was raised and so has to be cleared.

        Raises:
            ValueError: it cannot be read.
        """
        record = decode_record(dumped, DriftRecord)
        self._alert = record.alert
        if self._drift is None:
            self._left = record if record.alert is not None else None
        elif record.scorer == self._scorer:
            self._drift.restore(record.counts, record.report)

    def _at_block(self, drift: ScoreDrift, time_s: float) -> AlertEvent | None:
        """The event of a drift that begins or ends with the block that was just finished; None when neither."""
        report, alert = drift.report, self._alert
        assert report is not None
        if alert is None:
            if not drift.has_drifted:
                return None
            self._alert = DriftAlert(id=self._events.drift_id(time_s), since_s=time_s, worst=report.psi)
            return self._events.drift(Transition.RAISE, self._alert, time_s, report.psi, self._psi_limit)
        self._alert = alert = msgspec.structs.replace(alert, worst=max(alert.worst, report.psi))
        if not drift.is_back:
            return None
        self._alert = None
        return self._events.drift(Transition.CLEAR, alert, time_s, report.psi, self._psi_limit)

    def _end(self, alert: DriftAlert, time_s: float) -> AlertEvent:
        """Clear what was raised while drift was watched: nobody would ever."""
        self._alert = None
        report = None if self._left is None else self._left.report
        psi = alert.worst if report is None else report.psi
        return self._events.drift(Transition.CLEAR, alert, time_s, psi, self._psi_limit)


def _make_drift(settings: StreamSettings, manifest: Manifest) -> ScoreDrift | None:
    wanted, calibration = settings.drift, manifest.calibration
    if not wanted.block or calibration is None or len(calibration.quantiles) < 2:
        return None
    # With thresholds of their own, assets have no common distribution of scores.
    if settings.commission.readings:
        return None
    return ScoreDrift(
        calibration.quantiles,
        alarm=manifest.threshold.alarm,
        above=calibration.false_alarm_rate,
        block=wanted.block,
        psi_limit=wanted.psi_limit,
        blocks=wanted.blocks,
    )
