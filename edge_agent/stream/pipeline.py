"""One stream: readings in, alert events out. Holds the state of every asset, and does no I/O."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import Manifest
from edge_agent.engine.session import Engine, Scores
from edge_agent.mqtt.payload import AlertEvent
from edge_agent.stream.absent import AbsentValues
from edge_agent.stream.alarm import Alarm, AlarmState, for_another_model
from edge_agent.stream.commission import Commissioned, make_commission
from edge_agent.stream.drift_watch import DriftWatch
from edge_agent.stream.events import AlertBatch, AssetChange, EventMaker
from edge_agent.stream.join import Join
from edge_agent.stream.reading import FloatArray, Readings
from edge_agent.stream.records import (
    LEFT_RECORD,
    STREAM_RECORD,
    AssetRecord,
    LeftRecord,
    ScoresRecord,
    asset_of_scores,
    decode_record,
    encode_record,
    scores_key,
)
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window import Missing, Windows

__all__ = ["Outcome", "Pipeline", "WindowBatch"]

log = logging.getLogger(__name__)

_MOST_ROWS, _MOST_VALUES = 512, 4_000_000
"""Windows that are scored at once: as many as providers are timed with, and fewer where all their values, which are
made at once too, would take more than 16 MB."""
_FEW = 16
"""Scores that are looked at one by one in the time that numpy takes to begin."""


class Outcome(msgspec.Struct):
    """What one batch did."""

    scored: int = 0
    not_finite: int = 0
    """Windows whose score was NaN or infinite; they change no alarm."""
    alerts: AlertBatch | None = None
    """What it did to alarms; None when nothing."""
    drift: list[tuple[int, AlertEvent]] = msgspec.field(default_factory=list)
    """That the stream as a whole has drifted, or is back: each with the row of the window that told it."""
    changed: set[str] = msgspec.field(default_factory=set)
    """Assets of which an alarm or the commissioning has changed."""
    records: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(asset, record) pairs to keep in the journal."""

    @property
    def events(self) -> list[AlertEvent]:
        """What to publish, in order; made anew each time."""
        if not self.drift:
            return list(self.alerts or ())
        rows = () if self.alerts is None else (told.row for told in self.alerts.changes)
        pairs = [*zip(rows, self.alerts or (), strict=True), *self.drift]
        return [event for _, event in sorted(pairs, key=lambda pair: pair[0])]

    def kinds(self) -> list[str]:
        """Of those events the `event` fields, without making them."""
        changes = () if self.alerts is None else self.alerts.changes
        return [*(told.change.transition for told in changes), *(event.event for _, event in self.drift)]


class WindowBatch(msgspec.Struct, frozen=True):
    """Windows that are ready to be scored, in order; all have one length."""

    values: FloatArray
    """Shape (n, window, channels), oldest reading first."""
    assets: Sequence[str]
    times: Sequence[float]
    """Of each window's last reading, epoch seconds."""

    def __len__(self) -> int:
        return len(self.values)


class Pipeline:
    """Scores the readings of one stream.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        manifest: of the bundle.
        engine: scores windows of that bundle.
        provider: the engine's provider, told in every event.
        records: (asset, record) pairs that an earlier run left in the journal.
        settings: how readings, scores and alarms are treated.
    """

    def __init__(
        self,
        *,
        agent: str,
        stream: str,
        manifest: Manifest,
        engine: Engine,
        provider: str,
        records: Iterable[tuple[str, bytes]] = (),
        settings: StreamSettings | None = None,
    ) -> None:
        settings = settings or StreamSettings()
        self._stream = stream
        self._engine = engine
        self._scorer = manifest.scorer
        self._threshold = manifest.threshold
        self._alarm = Alarm(settings.alarm, agent=agent, stream=stream, model_sha256=manifest.model.sha256)
        self._lowest_limit = self._alarm.lowest_limit(self._threshold)
        self._events = EventMaker(agent=agent, stream=stream, manifest=manifest, provider=provider)
        self._states: dict[str, AlarmState] = {}
        width = len(manifest.channels)
        self._windows = Windows(window=manifest.window, stride=manifest.stride, channels=width, policy=settings.window)
        self._most_rows = min(_MOST_ROWS, max(1, _MOST_VALUES // (manifest.window * width)))
        names = [channel.name for channel in manifest.channels]
        skips = settings.window.missing is Missing.SKIP
        self.absent = AbsentValues(stream, names, self._windows, skips=skips)
        self._join = None if settings.join_s is None else Join(width, settings.join_s)
        self._joining: set[str] = set()
        self._commission = make_commission(settings.commission, manifest)
        self.drift = DriftWatch(settings, manifest, self._events)
        # What a stop left, and scores, come last: they stand back behind what the assets' own records have.
        for asset, record in sorted(records, key=lambda pair: pair[0].startswith("#")):
            try:
                self._restore(asset, record)
            # Damaged, or of another layout, which struct calls an error of its own.
            except (ValueError, struct.error) as exc:
                log.warning("record cannot be read, asset begins anew stream=%s asset=%r error=%s", stream, asset, exc)

    def parts(self, readings: Readings) -> Iterator[Readings]:
        """What to score at once, in order: one message may hold thousands of readings, and each may end a window."""
        return readings.parts(self._most_rows)

    def process(self, readings: Readings) -> Outcome:
        """Score a batch and say what it changed.

        Raises:
            EngineError: the runtime failed; nothing but the windows has changed.
        """
        touched = readings.latest()
        windows = self.take(readings)
        outcome = self.conclude(windows, self._engine.score(windows.values)) if len(windows) else Outcome()
        kept = touched if self._join is not None else self._windows.to_keep(touched)
        for asset in sorted(outcome.changed.union(kept)):
            outcome.records.append((asset, self._record(asset)))
        if self._commission is not None:
            outcome.records += self._scores_records(filter(self._commission.is_due, touched))
        return outcome

    def take(self, readings: Readings) -> WindowBatch:
        """The first half of `process`: the windows that a batch completes."""
        if self._join is not None:
            self._joining.update(readings.latest())
            readings = self._join.push(readings)
        values, completed_by = self._windows.push(readings)
        if len(completed_by) == len(readings):
            return WindowBatch(values, readings.assets, readings.times)
        return WindowBatch(
            values,
            [readings.assets[index] for index in completed_by],
            [readings.times[index] for index in completed_by],
        )

    def conclude(self, windows: WindowBatch, scores: Scores) -> Outcome:
        """The second half: what the scores of those windows change. `records` has none of the assets yet."""
        not_finite, at_limit = _look_at(scores.score, self._lowest_limit)
        outcome = Outcome(scored=len(windows), not_finite=not_finite)
        latest = windows.values[:, -1, :]
        changes = self._update_alarms(windows, latest, scores.score, at_limit, outcome.changed)
        if changes:
            outcome.alerts = self._events.collect(changes, times=windows.times, values=latest, scores=scores)
        outcome.drift, to_keep = self.drift.watch(windows.times, scores.score)
        if to_keep:
            outcome.records += self.drift.records()
        return outcome

    def recommission(self, asset: str | None) -> list[str]:
        """Set thresholds anew from the readings that come now.

        Args:
            asset: one asset, or None for all.

        Returns:
            The assets that this concerns, none of which may be left as it is in the journal.
        """
        if self._commission is None:
            return []
        assets = sorted(name for name in self._commission.assets() if asset in (None, name))
        self._commission.restart(asset)
        for name in assets:
            # Rows and values from before must not be part of the first scores.
            self._windows.forget(name)
            if self._join is not None:
                self._join.forget(name)
        return assets

    def take_heard(self) -> list[str]:
        """Assets that readings, or parts of readings, came from since the last call."""
        heard, self._joining = self._joining, set()
        return [*self._windows.take_heard(), *heard]

    def assets(self) -> set[str]:
        """All that something is remembered of."""
        commissioned = () if self._commission is None else self._commission.assets()
        joining = () if self._join is None else self._join.assets()
        return {*self._windows.assets(), *self._states, *commissioned, *joining}

    def forget(self, asset: str) -> bool:
        """An asset has been idle for too long; says whether it is gone.

        One with an alert is kept, and one with a limit of its own: a machine that stood still for weeks must not be
        commissioned anew when it starts, in silence.
        """
        state = self._states.get(asset)
        if state is not None and state.alert is not None:
            return False
        if self._commission is not None:
            if self._commission.threshold(asset) is not None:
                return False
            self._commission.restart(asset)
        self._states.pop(asset, None)
        self._windows.forget(asset)
        if self._join is not None:
            self._join.forget(asset)
        return True

    def records(self) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of all that is remembered, to begin a journal with."""
        return [*self.records_of(sorted(self.assets())), *self.drift.records()]

    def records_of(self, assets: Sequence[str]) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of all that is remembered of some assets."""
        return [*((name, self._record(name)) for name in assets), *self._scores_records(assets)]

    def leave(self, *, settled: bool = True) -> list[tuple[str, bytes]]:
        """(asset, record) pairs to keep over a planned stop.

        The last rows hold for the start that follows only, which has to delete them: later, they would be old.

        Args:
            settled: the journal has all that `process` gave. If not, only the rows: the last batch will be scored
                again, and what it told, as a drift, must be told then.
        """
        left = self._windows.leave()
        record = LeftRecord(scorer=self._scorer, windows=left)
        rows = [(LEFT_RECORD, encode_record(record))] if left else []
        if not settled:
            return rows
        unkept = () if self._commission is None else filter(self._commission.unkept, self._commission.assets())
        return [*rows, *self._scores_records(unkept), *self.drift.records()]

    def describe(self) -> dict[str, Any]:
        """For health: assets, what was left out, commissioning, drift."""
        windows = self._windows
        report = self.drift.report
        return {
            "assets": len(windows),
            "active_alerts": self.drift.has_alert + sum(state.alert is not None for state in self._states.values()),
            "late": windows.late,
            "incomplete": windows.incomplete,
            **self.absent.describe(),
            "restarted": windows.restarted,
            "commission": None if self._commission is None else self._commission.describe(),
            "drift": None if report is None else msgspec.to_builtins(report),
        }

    def _update_alarms(
        self, windows: WindowBatch, latest: FloatArray, scores: FloatArray, at_limit: list[int], changed: set[str]
    ) -> list[AssetChange]:
        """Run every score through its asset's alarm; adds to `changed` the assets of which something has changed."""
        told: list[AssetChange] = []
        states, threshold, update = self._states, self._threshold, self._alarm.update
        one_level = not self._alarm.has_levels
        for row in self._rows_that_matter(windows.assets, at_limit):
            score = scores.item(row)
            asset = windows.assets[row]
            if self._commission is not None:
                own = self._commission.threshold(asset)
                if own is None:
                    ready = self._commission.collect(asset, score)
                    if ready is not None:
                        self._tell_commissioned(ready, asset)
                        changed.add(asset)
                    continue
                threshold = own
            before = states.get(asset)
            time_s = windows.times[row]
            state, change = update(
                before, asset=asset, score=score, time_s=time_s, readings=latest, row=row, threshold=threshold
            )
            if state is before:
                continue
            changed.add(asset)
            if state is None:
                states.pop(asset, None)
            else:
                states[asset] = state
            if change is not None:
                limit = threshold.alarm if one_level else self._alarm.limit_of(change.alert.level, threshold)
                told.append(AssetChange(row, asset, limit, change))
        return told

    def _tell_commissioned(self, ready: Commissioned, asset: str) -> None:
        ready.tell(self._stream, asset, self._threshold)
        if self._alarm.has_levels and self._alarm.lowest_limit(ready.threshold) == ready.threshold.alarm:
            log.warning("warn is not below the asset's limit, no effect stream=%s asset=%s", self._stream, asset)

    def _rows_that_matter(self, assets: Sequence[str], at_limit: list[int]) -> Iterator[int]:
        """Rows whose score can change anything, in order, by the states at that moment: while all is quiet, few."""
        count = len(assets)
        if self._commission is not None:
            yield from range(count)
            return
        row, states = 0, self._states
        for raising in [*at_limit, count]:
            if states:
                for quiet in range(row, raising):
                    if assets[quiet] in states:
                        yield quiet
                        if not states:
                            break
            row = raising + 1
            if raising < count:
                yield raising

    def _record(self, asset: str) -> bytes:
        return encode_record(
            AssetRecord(
                scorer=self._scorer,
                alarm=self._states.get(asset),
                window=self._windows.dump(asset),
                join=b"" if self._join is None else self._join.dump(asset),
                commission=None if self._commission is None else self._commission.ready(asset),
            )
        )

    def _scores_records(self, assets: Iterable[str]) -> list[tuple[str, bytes]]:
        if self._commission is None:
            return []
        dump = self._commission.dump_scores
        return [
            (scores_key(name), encode_record(ScoresRecord(scorer=self._scorer, scores=dump(name)))) for name in assets
        ]

    def _restore(self, key: str, record: bytes) -> None:
        scored = asset_of_scores(key)
        if key == STREAM_RECORD:
            self.drift.restore(record)
        elif key == LEFT_RECORD:
            left = decode_record(record, LeftRecord)
            known = {*self._windows.assets()} if left.scorer == self._scorer else {*left.windows}
            for name in left.windows.keys() - known:
                self._windows.restore(name, left.windows[name], kept=False)
        elif scored is not None:
            scores = decode_record(record, ScoresRecord)
            if self._commission is not None and scores.scorer == self._scorer:
                self._commission.restore_scores(scored, scores.scores)
        else:
            self._restore_asset(key, decode_record(record, AssetRecord))

    def _restore_asset(self, asset: str, kept: AssetRecord) -> None:
        is_ours = kept.scorer == self._scorer
        if kept.alarm is not None:
            # An alert outlives a change of model: it was raised, so it has to be cleared.
            alarm = kept.alarm if is_ours else for_another_model(kept.alarm)
            if alarm is not None:
                self._states[asset] = alarm
        if not is_ours:
            return
        self._windows.restore(asset, kept.window)
        if self._join is not None:
            self._join.restore(asset, kept.join)
        if self._commission is not None and kept.commission is not None:
            self._commission.restore(asset, kept.commission)


def _look_at(scores: FloatArray, limit: float) -> tuple[int, list[int]]:
    """How many scores are no number, and the rows of those that are at a limit."""
    if len(scores) <= _FEW:
        few = scores.tolist()
        return len(few) - sum(map(isfinite, few)), [row for row, score in enumerate(few) if score >= limit]
    return len(scores) - int(np.count_nonzero(np.isfinite(scores))), (scores >= limit).nonzero()[0].tolist()
