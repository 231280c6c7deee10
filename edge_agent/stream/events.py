"""Makes the events that are published from the changes of alarms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_agent.bundle import Manifest
from edge_agent.messages.event import FORGOTTEN, STREAM_ASSET, AlertEvent, AlertModel, ChannelShare
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Scores
from edge_agent.messages.text import iso_time
from edge_agent.stream.alarm import Change, alert_namer
from edge_agent.stream.alarm_state import Alert, Level, Transition
from edge_agent.stream.drift import DriftAlert
from edge_agent.stream.shares import shares_of

__all__ = ["AlertBatch", "AssetChange", "EventMaker"]


class AssetChange(msgspec.Struct, frozen=True, gc=False):
    """A change of an asset's alarm, and the window that caused it."""

    row: int
    """Index of the window in its batch."""
    asset: str
    limit: float
    """The asset's limit of the alert's level, a score."""
    change: Change


@dataclass(frozen=True, slots=True)
class AlertBatch:
    """The changes of alarms by one batch, as columns of one length. Iteration makes the events.

    Events are made on demand: a long file has many, of about 1 kB each, and a caller that counts them needs none.
    """

    maker: EventMaker
    changes: Sequence[AssetChange]
    """In the order of the windows."""
    times: Sequence[float]
    """Time of the last reading of each change's window, epoch seconds."""
    values: FloatArray
    """Last reading of each change's window, shape (n, channels), float32."""
    scores: Scores
    """Scores of each change's window."""

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[AlertEvent]:
        return self.maker.events(self)

    def raised(self) -> list[str]:
        """The asset of each alert that begins, without making the events."""
        begin = (Transition.RAISE, Transition.FLAPPING)
        return [told.asset for told in self.changes if told.change.transition in begin]


class EventMaker:
    """Makes the events of one stream.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        manifest: of the bundle.
        provider: the engine's provider, for scores that do not name one.
    """

    def __init__(self, *, agent: str, stream: str, manifest: Manifest, provider: str) -> None:
        self._agent = agent
        self._stream = stream
        self._provider = provider
        self._name = alert_namer(agent=agent, stream=stream, model_sha256=manifest.model.sha256)
        self._model = AlertModel(name=manifest.name, version=manifest.version, sha256=manifest.model.sha256)
        self._channels = np.array([channel.name for channel in manifest.channels], dtype=object)

    def collect(
        self, changes: Sequence[AssetChange], *, times: Sequence[float], values: FloatArray, scores: Scores
    ) -> AlertBatch:
        """Copy from a batch the rows that its events need, so that the batch itself is not kept in memory.

        Args:
            changes: from the alarm.
            times: of the last readings of all windows of the batch, epoch seconds.
            values: the last readings of all windows, shape (windows, channels), float32.
            scores: of all windows.
        """
        rows = [change.row for change in changes]
        parts = None if scores.contributions is None else scores.contributions[rows]
        told = Scores(scores.score[rows], parts, scores.provider)
        return AlertBatch(self, changes, [times[row] for row in rows], values[rows], told)

    def events(self, batch: AlertBatch) -> Iterator[AlertEvent]:
        """Make the events of a batch, in order."""
        provider = batch.scores.provider or self._provider
        return (
            self._event(change, iso_time(time_s), score, channels, provider)
            for change, time_s, score, channels in zip(
                batch.changes, batch.times, batch.scores.score.tolist(), self._shares(batch), strict=True
            )
        )

    def _event(
        self, told: AssetChange, time: str, score: float, channels: list[ChannelShare], provider: str
    ) -> AlertEvent:
        change, alert = told.change, told.change.alert
        cleared = change.transition is Transition.CLEAR
        return AlertEvent(
            id=alert.id,
            event=change.transition,
            agent=self._agent,
            stream=self._stream,
            asset=told.asset,
            level=alert.level,
            score=score,
            threshold=told.limit,
            time=time,
            since=iso_time(alert.since_s),
            channels=channels,
            model=self._model,
            provider=provider,
            # In milliseconds, as the times are.
            duration_s=msgspec.UNSET if change.duration_s is None else round(change.duration_s, 3),
            worst=alert.worst if cleared else msgspec.UNSET,
            clock_step_s=round(alert.stepped_s, 3) if cleared and alert.stepped_s else msgspec.UNSET,
        )

    def released(self, asset: str, alert: Alert, time_s: float, limit: float) -> AlertEvent:
        """Make the clear of an alert whose asset is forgotten.

        Args:
            asset: its name.
            alert: as it was.
            time_s: of the asset's last reading, epoch seconds.
            limit: of the alert's level, a score.
        """
        # After a change of the model there may be no score yet.
        worst = alert.worst if math.isfinite(alert.worst) else limit
        ended = Change(Transition.CLEAR, alert, duration_s=alert.lasted_s(time_s))
        event = self._event(AssetChange(0, asset, limit, ended), iso_time(time_s), worst, [], self._provider)
        return msgspec.structs.replace(event, worst=worst, reason=FORGOTTEN)

    def drift_id(self, since_s: float) -> str:
        """The id of a drift that began at this time, in epoch seconds."""
        return self._name(STREAM_ASSET, since_s, b"")

    def drift(self, transition: Transition, alert: DriftAlert, time_s: float, psi: float, limit: float) -> AlertEvent:
        """Make the event of a drift that begins or ends.

        Args:
            transition: `RAISE` or `CLEAR`.
            alert: the drift.
            time_s: of the reading that finished the block, epoch seconds.
            psi: the block's population stability index.
            limit: of the population stability index.
        """
        cleared = transition is Transition.CLEAR
        return AlertEvent(
            id=alert.id,
            event=transition,
            agent=self._agent,
            stream=self._stream,
            asset=STREAM_ASSET,
            level=Level.DRIFT,
            score=psi,
            threshold=limit,
            time=iso_time(time_s),
            since=iso_time(alert.since_s),
            channels=[],
            model=self._model,
            provider=self._provider,
            duration_s=round(max(0.0, time_s - alert.since_s), 3) if cleared else msgspec.UNSET,
            worst=alert.worst if cleared else msgspec.UNSET,
        )

    def level_id(self, level: Level, asset: str, since_s: float) -> str:
        """The id of an alert of silence or of frozen values that was raised at this time, in epoch seconds."""
        return self._name(asset, since_s, level.encode())

    def of_level(
        self,
        level: Level,
        transition: Transition,
        asset: str,
        *,
        name: str,
        since_s: float,
        time_s: float,
        score: float,
        threshold: float,
        channels: list[ChannelShare],
    ) -> AlertEvent:
        """Make an event of a silence or of frozen values.

        Args:
            level: `SILENT` or `STUCK`.
            transition: `RAISE`, `UPDATE` or `CLEAR`.
            asset: the asset, or `STREAM_ASSET`.
            name: the alert's id.
            since_s: when it was raised, epoch seconds.
            time_s: the time of the event, epoch seconds.
            score: seconds of silence so far; or for how many readings the value is the same.
            threshold: from which score on it is told.
            channels: those that are frozen; in a clear, those that were.
        """
        cleared = transition is Transition.CLEAR
        return AlertEvent(
            id=name,
            event=transition,
            agent=self._agent,
            stream=self._stream,
            asset=asset,
            level=level,
            score=score,
            threshold=threshold,
            time=iso_time(time_s),
            since=iso_time(since_s),
            channels=channels,
            model=self._model,
            provider=self._provider,
            duration_s=round(max(0.0, time_s - since_s), 3) if cleared else msgspec.UNSET,
        )

    def _shares(self, batch: AlertBatch) -> Iterator[list[ChannelShare]]:
        """For each event its channels, largest share first; an empty list if the model gives no contributions."""
        if batch.scores.contributions is None:
            return ([] for _ in batch.changes)
        order, shares, telling = shares_of(batch.scores.contributions)
        columns = (
            telling.tolist(),
            self._channels[order].tolist(),
            shares.round(4).tolist(),
            _values_or_none(np.take_along_axis(batch.values, order, axis=1)),
        )
        return (
            list(map(ChannelShare, names, of_each, latest)) if tells else []
            for tells, names, of_each, latest in zip(*columns, strict=True)
        )


def _values_or_none(values: FloatArray) -> list[list[float | None]]:
    """Rows of values as lists, with None where one is missing, since JSON has no NaN."""
    missing = np.isnan(values)
    if not missing.any():
        found: list[list[float | None]] = values.tolist()
        return found
    told = values.astype(object)
    told[missing] = None
    return list(told.tolist())
