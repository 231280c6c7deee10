"""Changes of an alarm as the events that are published."""

from __future__ import annotations

import msgspec
import numpy as np

from edge_agent.bundle import Manifest
from edge_agent.mqtt.payload import AlertEvent, AlertModel, ChannelShare, iso_time
from edge_agent.stream.alarm import Change, Level, Transition, alert_id
from edge_agent.stream.drift import ScoreDrift
from edge_agent.stream.reading import FloatArray

__all__ = ["STREAM_ASSET", "EventMaker"]

STREAM_ASSET = "stream"
"""The asset of an alert about a stream as a whole."""


class EventMaker:
    """Makes the events of one stream.

    Args:
        agent: the agent's id.
        stream: the stream's name.
        manifest: of the bundle.
        provider: what computed the scores.
    """

    def __init__(self, *, agent: str, stream: str, manifest: Manifest, provider: str) -> None:
        self._agent = agent
        self._stream = stream
        self._provider = provider
        self._model = AlertModel(name=manifest.name, version=manifest.version, sha256=manifest.model.sha256)
        self._channels = [channel.name for channel in manifest.channels]

    def make(
        self,
        change: Change,
        *,
        asset: str,
        score: float,
        time_s: float,
        limit: float,
        values: FloatArray,
        contributions: FloatArray | None,
        provider: str | None = None,
    ) -> AlertEvent:
        """The event of an asset's alarm.

        Args:
            change: from the alarm.
            asset: its name.
            score: that changed it.
            time_s: of its reading.
            limit: the asset's alarm limit.
            values: shape (channels,), the reading.
            contributions: shape (channels,), each channel's share of the score; None when the model does not tell.
            provider: what computed the score, where that is another one than at the start.
        """
        alert = change.alert
        cleared = change.transition is Transition.CLEAR
        return AlertEvent(
            id=alert.id,
            event=change.transition.value,
            agent=self._agent,
            stream=self._stream,
            asset=asset,
            level=alert.level.value,
            score=score,
            threshold=limit,
            time=iso_time(time_s),
            since=iso_time(alert.since_s),
            channels=self._shares(values, contributions),
            model=self._model,
            provider=provider or self._provider,
            duration_s=change.duration_s if cleared and change.duration_s is not None else msgspec.UNSET,
            worst=alert.worst if cleared else msgspec.UNSET,
        )

    def drifted(self, drift: ScoreDrift, time_s: float) -> AlertEvent | None:
        """The event of a drift that begins or ends with the block that was just finished; None when neither.

        Args:
            drift: its `since_s` is set and cleared here.
            time_s: of the block's last reading.
        """
        report = drift.report
        if report is None:
            return None
        if drift.since_s is None and drift.has_drifted:
            transition, since_s, drift.since_s = Transition.RAISE, time_s, time_s
        elif drift.since_s is not None and drift.is_back:
            transition, since_s, drift.since_s = Transition.CLEAR, drift.since_s, None
        else:
            return None
        name = alert_id(
            agent=self._agent,
            stream=self._stream,
            asset=STREAM_ASSET,
            model_sha256=self._model.sha256,
            since_s=since_s,
        )
        return AlertEvent(
            id=name,
            event=transition.value,
            agent=self._agent,
            stream=self._stream,
            asset=STREAM_ASSET,
            level=Level.DRIFT.value,
            score=report.psi,
            threshold=drift.psi_limit,
            time=iso_time(time_s),
            since=iso_time(since_s),
            channels=[],
            model=self._model,
            provider=self._provider,
        )

    def _shares(self, values: FloatArray, contributions: FloatArray | None) -> list[ChannelShare]:
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
