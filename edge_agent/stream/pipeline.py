"""One stream: readings in, alert events out. Holds the state of every asset, and does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge_agent.bundle import Manifest
from edge_agent.engine.session import Engine, Scores
from edge_agent.mqtt.payload import AlertEvent, AlertModel, ChannelShare, iso_time
from edge_agent.stream.alarm import Alarm, AlarmState, Transition, alert_id
from edge_agent.stream.reading import Readings
from edge_agent.stream.window import Windows

__all__ = ["Outcome", "Pipeline"]


class _AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps of one asset."""

    model_sha256: str
    alarm: AlarmState | None
    window: bytes


@dataclass(slots=True)
class Outcome:
    """What one batch did."""

    scored: int = 0
    not_finite: int = 0
    """Windows whose score was NaN or infinite; they change no alarm."""
    events: list[AlertEvent] = field(default_factory=list)
    records: list[tuple[str, bytes]] = field(default_factory=list)
    """(asset, record) pairs to keep in the journal."""


class Pipeline:
    """Scores the readings of one stream.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        manifest: of the bundle.
        engine: scores windows of that bundle.
        provider: the engine's provider, told in every event.
        records: (asset, record) pairs that an earlier run left in the journal.
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
    ) -> None:
        self._agent = agent
        self._stream = stream
        self._provider = provider
        self._engine = engine
        self._model = AlertModel(name=manifest.name, version=manifest.version, sha256=manifest.model.sha256)
        self._channels = [channel.name for channel in manifest.channels]
        self._alarm = Alarm(manifest.threshold)
        self._active: dict[str, AlarmState] = {}
        self._windows = Windows(window=manifest.window, stride=manifest.stride, channels=len(self._channels))
        for asset, record in records:
            self._restore(asset, record)

    @property
    def active_alerts(self) -> int:
        """Assets with an alert that is raised and not cleared."""
        return len(self._active)

    def process(self, readings: Readings) -> Outcome:
        """Score a batch and say what it changed.

        Raises:
            EngineError: the runtime failed; nothing but the windows has changed.
        """
        outcome = Outcome()
        windows, completed_by = self._windows.push(readings)
        changed: set[str] = set()
        if completed_by:
            scores = self._engine.score(windows)
            outcome.scored = len(completed_by)
            outcome.not_finite = int(np.count_nonzero(~np.isfinite(scores.score)))
            changed = self._update_alarms(readings, windows[:, -1, :], completed_by, scores, outcome.events)
        changed.update(asset for asset in set(readings.assets) if self._windows.must_keep(asset))
        outcome.records = [(asset, self._record(asset)) for asset in sorted(changed)]
        return outcome

    def _update_alarms(
        self, readings: Readings, latest: np.ndarray, completed_by: list[int], scores: Scores, events: list[AlertEvent]
    ) -> set[str]:
        """Run every score through its asset's alarm; gives the assets whose alarm changed."""
        changed: set[str] = set()
        at_alarm = np.flatnonzero(scores.score >= self._alarm.threshold.alarm)
        if not self._active and not at_alarm.size:
            return changed
        # Before the first score that can change anything, there is nothing to look at.
        first = 0 if self._active else int(at_alarm[0])
        for row in range(first, len(completed_by)):
            asset = readings.assets[completed_by[row]]
            state = self._active.get(asset)
            transition = self._alarm.update(state is not None, float(scores.score[row]))
            if transition is None:
                continue
            time_s = readings.times[completed_by[row]]
            if state is None:
                state = self._raise(asset, time_s)
            else:
                del self._active[asset]
            events.append(self._event(transition, asset, state, time_s, latest[row], scores, row))
            changed.add(asset)
        return changed

    def _raise(self, asset: str, time_s: float) -> AlarmState:
        name = alert_id(
            agent=self._agent, stream=self._stream, asset=asset, model_sha256=self._model.sha256, since_s=time_s
        )
        state = self._active[asset] = AlarmState(id=name, since_s=time_s)
        return state

    def _event(
        self,
        transition: Transition,
        asset: str,
        state: AlarmState,
        time_s: float,
        values: np.ndarray,
        scores: Scores,
        row: int,
    ) -> AlertEvent:
        return AlertEvent(
            id=state.id,
            event=transition.value,
            agent=self._agent,
            stream=self._stream,
            asset=asset,
            level="alarm",
            score=float(scores.score[row]),
            threshold=self._alarm.threshold.alarm,
            time=iso_time(time_s),
            since=iso_time(state.since_s),
            channels=self._shares(values, None if scores.contributions is None else scores.contributions[row]),
            model=self._model,
            # After a fallback it is another one than at the start.
            provider=scores.provider or self._provider,
        )

    def _shares(self, values: np.ndarray, contributions: np.ndarray | None) -> list[ChannelShare]:
        total = 0.0 if contributions is None else float(contributions.sum(dtype=np.float64))
        if contributions is None or not np.isfinite(total) or total <= 0:
            return []
        return [
            ChannelShare(
                name=self._channels[index],
                share=round(float(contributions[index]) / total, 4),
                value=float(values[index]),
            )
            for index in np.argsort(-contributions, kind="stable")
        ]

    def _record(self, asset: str) -> bytes:
        return msgspec.msgpack.encode(
            _AssetRecord(
                model_sha256=self._model.sha256, alarm=self._active.get(asset), window=self._windows.dump(asset)
            )
        )

    def _restore(self, asset: str, record: bytes) -> None:
        kept = msgspec.msgpack.decode(record, type=_AssetRecord)
        if kept.alarm is not None:
            # An alert outlives a change of model: it was raised, so it has to be cleared.
            self._active[asset] = kept.alarm
        if kept.model_sha256 == self._model.sha256:
            self._windows.restore(asset, kept.window)
