"""The drift of one stream: counts the scores, raises and clears the alert, and makes the journal's record of both."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.alarm_state import Transition
from edge_agent.stream.drift import DriftAlert, DriftReport, ScoreDrift
from edge_agent.stream.events import EventMaker
from edge_agent.stream.records import STREAM_RECORD, DriftRecord, decode_record, encode_record
from edge_agent.stream.settings import StreamSettings

__all__ = ["DriftWatch"]


class DriftWatch:
    """Watches the scores of a stream for drift.

    Nothing is watched where the bundle has no quantiles, the settings compare no blocks, or assets are commissioned.

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
        """The journal's record of an open alert whose drift is no longer watched, until the journal has its clear."""

    @property
    def has_alert(self) -> bool:
        """True if a drift was raised and not cleared."""
        return self._alert is not None

    @property
    def report(self) -> DriftReport | None:
        """The report of the last block; None before the first one, and where nothing is watched."""
        return None if self._drift is None else self._drift.report

    def watch(self, times: Sequence[float], scores: FloatArray) -> tuple[list[tuple[int, AlertEvent]], bool]:
        """Count the scores of a batch.

        Args:
            times: of the windows' last readings, epoch seconds.
            scores: of the windows, shape (n,), float32, n at least 1; higher is more anomalous.

        Returns:
            The events, each with the row of the window that finished the block; and True if `records` has something
            new beside the counts of the unfinished block, so that it must be written.
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
        """The (asset, record) pair of the stream's drift for the journal; empty where nothing is watched.

        The pair is written when a block ends or an alert changes, not with each batch: a crash loses the scores that
        were counted since.
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
        """Put back a record from `records`.

        Of a record of another scorer only the alert is taken, because an alert that was raised must be cleared.

        Raises:
            ValueError: the record is damaged, or of another kind.
        """
        record = decode_record(dumped, DriftRecord)
        self._alert = record.alert
        if self._drift is None:
            self._left = record if record.alert is not None else None
        elif record.scorer == self._scorer:
            self._drift.restore(record.counts, record.report)

    def _at_block(self, drift: ScoreDrift, time_s: float) -> AlertEvent | None:
        """The event of a drift that begins or ends with the block that was just finished; None if neither does."""
        report, alert = drift.report, self._alert
        assert report is not None
        if alert is None:
            if not drift.has_drifted:
                return None
            self._alert = DriftAlert(id=self._events.drift_id(time_s), since_s=time_s, worst=report.psi)
            return self._events.drift(Transition.RAISE, self._alert, time_s, report.psi, self._psi_limit)
        self._alert = alert = msgspec.structs.replace(alert, worst=max(alert.worst, report.psi))
        if not drift.has_recovered:
            return None
        self._alert = None
        return self._events.drift(Transition.CLEAR, alert, time_s, report.psi, self._psi_limit)

    def _end(self, alert: DriftAlert, time_s: float) -> AlertEvent:
        """Clear an alert from the time when drift was watched, because no later block can clear it."""
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
