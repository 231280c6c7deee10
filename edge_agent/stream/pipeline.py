"""One stream: takes readings, gives alert events, holds the state of every asset, and does no I/O."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Engine, Scores
from edge_agent.stream.alarm import Alarm, look_at
from edge_agent.stream.alarm_state import Transition, for_other_limits
from edge_agent.stream.commission import Commission, make_commission
from edge_agent.stream.drift_watch import DriftWatch
from edge_agent.stream.events import AssetChange, EventMaker
from edge_agent.stream.heard import Heard
from edge_agent.stream.intake import Intake
from edge_agent.stream.memory import Memory
from edge_agent.stream.missing import MissingValues
from edge_agent.stream.model_state import ModelStates
from edge_agent.stream.outcome import Outcome, WindowBatch
from edge_agent.stream.quiet import Quiet
from edge_agent.stream.recent import RecentScores
from edge_agent.stream.records import keys_of
from edge_agent.stream.room import Room
from edge_agent.stream.roster import Pinned, Roster
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.silence import Silence
from edge_agent.stream.standings import Standings
from edge_agent.stream.stuck import Stuck
from edge_agent.stream.tally import Tally
from edge_agent.stream.window_settings import Missing

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)

_MOST_ROWS, _MOST_VALUES = 512, 4_000_000
"""Most windows that are scored at once, which is also the largest batch that providers are timed with; and most values
in them, float32, so that large windows take at most 16 MB at once."""


class Pipeline:
    """Scores the readings of one stream.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        manifest: of the bundle.
        engine: scores windows with the bundle's model.
        provider: the engine's provider, named in every event.
        records: (asset, record) pairs that an earlier run left in the journal; one that cannot be read is logged and
            left out.
        settings: how readings, scores and alarms are treated; None for the defaults.
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
        settings = (settings or StreamSettings()).for_bundle(manifest)
        self._stream = stream
        self._engine = engine
        self._threshold = manifest.threshold
        self._alarm = Alarm(settings.alarm, agent=agent, stream=stream, model_sha256=manifest.model.sha256)
        self._lowest_limit = self._alarm.lowest_limit(self._threshold) if settings.alerts else math.inf
        self._events = EventMaker(agent=agent, stream=stream, manifest=manifest, provider=provider)
        width = len(manifest.channels)
        self._most_rows = min(_MOST_ROWS, max(1, _MOST_VALUES // (manifest.window * width)))
        names = [channel.name for channel in manifest.channels]
        skips = settings.window.missing is Missing.SKIP
        self._stuck = Stuck(settings.stuck_readings, names, self._events)
        self._intake = Intake(stream, manifest, settings, self._stuck)
        self.missing = MissingValues(stream, names, self._intake.windows, skips=skips)
        self._commission = make_commission(settings.commission, manifest)
        self.drift = DriftWatch(settings, manifest, self._events)
        self.heard = Heard()
        self._tells_silence = settings.silent_s > 0
        size = manifest.model.state_size
        self._model_states = ModelStates(stream, size, manifest.model.warm_up) if size else None
        asset_bytes = self._intake.asset_bytes + (self._model_states.asset_bytes if self._model_states else 0)
        self.room = Room(settings, self._intake.windows, asset_bytes)
        self.roster = Roster(self.room, self._pinned)
        known_since = self.roster.known_since
        self.silence = Silence(settings, heard=self.heard, events=self._events, known_since=known_since)
        self._gone: list[str] = []
        """Assets that are forgotten and whose records are still in the journal."""
        self._released: list[AlertEvent] = []
        """Clears of their alerts, which no outcome has yet."""
        self._memory = Memory(
            stream=stream,
            scorer=manifest.scorer,
            rows=manifest.rows,
            intake=self._intake,
            commission=self._commission,
            drift=self.drift,
            silence=self.silence,
            stuck=self._stuck,
            model_states=self._model_states,
        )
        self._states = self._memory.states
        self.standings = Standings(self._memory, self._threshold, self._alarm)
        self.watchers: list[Tally | RecentScores] = []  # are given every score
        for asset in self._memory.restore(records):
            self.roster.restore(asset)
        # Only after all records: an alert or a limit, which keeps its asset here, may be in the last record.
        self._fit_room()
        self._make_room()
        self.silence.begin(self.roster.assets())

    def parts(self, readings: Readings, most: int = _MOST_ROWS) -> Iterator[Readings]:
        """Cut readings, in order, into parts of at most `most`, that are scored at once.

        One message may hold thousands of readings, and each may complete a window. A part has at most as many assets as
        may be remembered, because no asset of a batch makes room for another asset of the same batch.
        """
        fits = len(readings.latest()) <= self.room.limit
        return readings.parts(min(most, self._most_rows, most if fits else int(self.room.limit)))

    def process(self, readings: Readings) -> Outcome:
        """Score a batch of readings.

        Args:
            readings: one of `parts`; missing values that are held are filled in place.

        Returns:
            The changes, with the records to keep.

        Raises:
            EngineError: the runtime failed; the readings are in the windows and assets may have been forgotten, but no
                score was applied.
        """
        readings, refused = self.admit(readings)
        touched = readings.latest()
        windows = self.complete_windows(readings)
        outcome = self.apply_scores(*self.score(windows)) if len(windows) else Outcome()
        outcome.refused, outcome.released, self._released = refused, self._released, []
        # Deletions come first, because a forgotten asset may be back already, with a record below.
        outcome.records += [(key, b"") for asset in self._gone for key in keys_of(asset)]
        self._gone.clear()
        for event, record in self._stuck.take():
            self.roster.alert_ended()
            outcome.released.append(event)
            outcome.records.append(record)
        if self._tells_silence:
            # Otherwise an asset that never comes again after a crash would not be missed.
            outcome.changed.update(self.roster.newcomers())
        # Every score changes the state of its asset's model.
        to_keep = self._intake.to_keep(touched) if self._model_states is None else touched
        for asset in sorted(outcome.changed.union(to_keep)):
            outcome.records.append((asset, self._memory.record(asset)))
        if self._commission is not None:
            outcome.records += self._memory.scores_records(filter(self._commission.is_due, touched))
        return outcome

    def admit(self, readings: Readings) -> tuple[Readings, list[str]]:
        """Note the assets of a batch, and make room for new ones: any sender may make up the name of an asset.

        Returns:
            The readings whose assets are remembered; and the asset of each reading that is left out for lack of room.
        """
        refused = {*self._make_room()} if self.roster.hear(readings.latest()) else None
        if not refused:
            return readings, []
        return readings.without(refused), [asset for asset in readings.assets if asset in refused]

    def complete_windows(self, readings: Readings) -> WindowBatch:
        """The part of `process` before the engine: add readings, and give the windows that they complete.

        Missing values that are held are filled in `readings` in place.
        """
        return self._intake.push(readings)

    @property
    def has_state(self) -> bool:
        """True if the score of a window depends on the scores before, so that windows are scored in their order."""
        return self._model_states is not None

    def score(self, windows: WindowBatch) -> tuple[WindowBatch, Scores]:
        """The part of `process` that asks the engine, of at least one window; gives those whose scores count."""
        if self._model_states is None:
            return windows, self._engine.score(windows.values)
        return self._model_states.score(self._engine, windows)

    def apply_scores(self, windows: WindowBatch, scores: Scores) -> Outcome:
        """The part of `process` after the engine: apply the scores of windows to alarms, commissioning and drift.

        Args:
            windows: from `complete_windows`.
            scores: of the windows.

        Returns:
            The changes. `records` has no record of an asset yet; `process` adds them.
        """
        for watcher in self.watchers:
            watcher.add(windows, scores)
        not_finite, at_limit = look_at(scores.score, self._lowest_limit)
        high = 0 if self._commission is not None else len(at_limit)
        outcome = Outcome(scored=len(windows), not_finite=not_finite, at_limit=high)
        latest = windows.values[:, -1, :]
        changes = self._update_alarms(windows, latest, scores.score, at_limit, outcome.changed)
        if changes:
            outcome.alerts = self._events.collect(changes, times=windows.times, values=latest, scores=scores)
        outcome.drift, to_keep = self.drift.watch(windows.times, scores.score)
        if to_keep:
            outcome.records += self.drift.records()
        return outcome

    def listen(self, listened_s: float, now_s: float, is_muted: Callable[[str], bool] = lambda _: False) -> Outcome:
        """Note who was heard, and who was not; to be called now and then.

        Args:
            listened_s: for how long readings could come since the last call, seconds.
            now_s: the time, epoch seconds.
            is_muted: as `Suppression.is_muted`.

        Returns:
            The events of silences, with their records; both must be written as those of a batch.
        """
        heard = {*self.roster.take_heard()}
        self.heard.note(self.roster.assets(), heard, listened_s)
        events, records = self.silence.look(heard, now_s, is_muted)
        return Outcome(released=events, records=records)

    def recommission(self, asset: str | None) -> list[str]:
        """Begin commissioning again, with the readings that follow.

        Args:
            asset: one asset, or None for all.

        Returns:
            The assets that begin again, sorted; the caller must write their records to the journal. Empty if the stream
            is not commissioned, or does not know the asset.
        """
        if self._commission is None:
            return []
        assets = sorted(name for name in self._commission.assets() if asset in (None, name))
        self._commission.restart(asset)
        for name in assets:
            # Rows and values from before must not be part of the first scores of the new commissioning.
            self._memory.forget_readings(name)
        self._fit_room()
        return assets

    def assets(self) -> set[str]:
        """All that are remembered."""
        return {*self.roster.assets()}

    def forget(self, asset: str) -> bool:
        """Forget an asset that has been idle for too long, unless it has an open alert or a limit of its own.

        A commissioned asset is kept because a machine that stood still for weeks must not be commissioned again, while
        it raises nothing, when it starts.

        Returns:
            True if the asset is forgotten.
        """
        state = self._states.get(asset)
        has_limit = self._commission is not None and self._commission.threshold(asset) is not None
        if has_limit or asset in self._stuck.assets or (state is not None and state.alert is not None):
            return False
        self.roster.forget(asset)
        self._memory.drop(asset)
        self._fit_room()
        return True

    def records(self) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of all assets and of the stream's drift, to begin a journal with."""
        return [
            *self.records_of(sorted(self.assets())),
            *self.drift.records(),
            *self.silence.records(),
            *self._stuck.records(),
        ]

    def records_of(self, assets: Sequence[str]) -> list[tuple[str, bytes]]:
        """(asset, record) pairs of some assets, with their collected scores if the stream is commissioned."""
        return [*((name, self._memory.record(name)) for name in assets), *self._memory.scores_records(assets)]

    def leave(self, *, settled: bool = True) -> list[tuple[str, bytes]]:
        """(asset, record) pairs to write at a planned stop.

        The record of the last rows is for the next start only, which must delete it: at a later start the rows would be
        out of date.

        Args:
            settled: True if the journal has all records and events that `process` gave. If False, only the last rows
                are given: the last batch will be scored again, and its events, such as a drift, must be raised then.
        """
        rows = self._memory.left_record()
        if not settled:
            return rows
        unkept = () if self._commission is None else filter(self._commission.unkept, self._commission.assets())
        return [*rows, *self._memory.scores_records(unkept), *self.drift.records()]

    def describe(self) -> dict[str, Any]:
        """For the health message: numbers of assets and of readings that were left out, commissioning, drift."""
        alerts = len(self._states.alerting())
        return {
            **self._intake.describe(),
            "most_assets": None if self.room.limit == math.inf else int(self.room.limit),
            "forgotten": self.roster.forgotten,
            "active_alerts": self.drift.has_alert + self.silence.open_alerts + len(self._stuck.assets) + alerts,
            **self.missing.describe(),
            "silent": self.silence.describe(),
            "stuck": self._stuck.describe(),
            "state": None if self._model_states is None else self._model_states.describe(),
            "commission": None if self._commission is None else self._commission.describe(),
            "drift": None if (report := self.drift.report) is None else msgspec.to_builtins(report),
        }

    def _update_alarms(
        self, windows: WindowBatch, latest: FloatArray, scores: FloatArray, at_limit: list[int], changed: set[str]
    ) -> list[AssetChange]:
        """Apply every score to its asset's alarm, and add to `changed` the assets whose state has changed."""
        told: list[AssetChange] = []
        states, threshold, update = self._states, self._threshold, self._alarm.update
        one_level, begun = not self._alarm.has_levels, windows.begun
        quiet = Quiet(self._alarm, threshold, states, windows=windows, scores=scores, on_change=changed.add)
        matter = windows.rows_that_matter(at_limit, states.running, quiet.pass_from)
        rows = matter if self._commission is None else range(len(windows))
        for row in rows:
            score = scores.item(row)
            asset = windows.assets[row]
            if self._commission is not None:
                own = self._commission.threshold(asset)
                if own is None:
                    if self._collect(self._commission, asset, score):
                        changed.add(asset)
                    continue
                threshold = own
            before = states.get(asset)
            time_s = windows.times[row]
            state, change = update(
                before,
                asset=asset,
                score=score,
                time_s=time_s,
                readings=latest,
                row=row,
                threshold=threshold,
                begins=row in begun,
            )
            if state is before:
                continue
            changed.add(asset)
            states.put(asset, state)
            if change is not None:
                if change.transition is Transition.CLEAR:
                    self.roster.alert_ended()
                limit = threshold.alarm if one_level else self._alarm.limit_of(change.alert.level, threshold)
                told.append(AssetChange(row, asset, limit, change))
        return told

    def _collect(self, commission: Commission, asset: str, score: float) -> bool:
        """Add a score to those that an asset gets its limits from; True if it has them now."""
        ready = commission.collect(asset, score)
        if ready is None:
            return False
        self._fit_room()
        ready.tell(self._stream, asset, bundle=self._threshold, alarm=self._alarm)
        state = self._states.get(asset)
        if state is not None:
            # What earlier scores confirmed by half, they did by other limits, before all that was collected since.
            self._states.put(asset, for_other_limits(state))
        return True

    def _pinned(self) -> Pinned:
        """An open alert needs its clear, and a new limit takes days to collect."""
        limited = () if self._commission is None else self._commission.assets()
        return Pinned(limited, self._states.alerting() | self._stuck.assets)

    def _fit_room(self) -> None:
        """Have the room follow the number of assets that are commissioned."""
        if self._commission is not None:
            self.room.fit(self._commission.ready_assets)

    def _make_room(self) -> list[str]:
        """Forget assets down to the limit, and return the assets of the last batch that are refused."""
        forgotten, refused = self.roster.make_room()
        for asset in forgotten:
            alert = (state := self._states.get(asset)) and state.alert
            if state and alert:
                limit = self._alarm.limit_of(alert.level, self._threshold)
                self._released.append(self._events.released(asset, alert, state.newest_s, limit))
            self._memory.drop(asset)
        if forgotten:
            self._fit_room()
        self._gone += forgotten
        return refused
