"""How an asset stands now: its limits, and which of its states it is in. What events tell when it changes."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.bundle import Threshold
from edge_agent.messages.event import STREAM_ASSET
from edge_agent.messages.scores import AssetState
from edge_agent.stream.alarm import Alarm
from edge_agent.stream.memory import Memory

__all__ = ["Standings"]


@dataclass(frozen=True, slots=True)
class Standings:
    """Asks what a stream remembers of one asset."""

    memory: Memory
    threshold: Threshold
    """The bundle's limits."""
    alarm: Alarm

    def limits(self, asset: str) -> Threshold | None:
        """The limits that an asset's scores are held against; None while it is commissioned."""
        commission = self.memory.commission
        own = self.threshold if commission is None else commission.threshold(asset)
        return None if own is None else Threshold(alarm=own.alarm, clear=self.alarm.clear_limit(own))

    @property
    def has_own_limits(self) -> bool:
        """Whether assets may have limits that differ."""
        return self.memory.commission is not None

    def state(self, asset: str) -> AssetState:
        """What is most wrong with an asset."""
        alarm = self.memory.states.get(asset)
        if alarm is not None and alarm.alert is not None:
            return AssetState.ALARM
        if self.memory.stuck.is_stuck(asset):
            return AssetState.STUCK
        if self.memory.silence.is_silent(asset):
            return AssetState.SILENT
        return AssetState.NORMAL if self.limits(asset) is not None else AssetState.LEARNING

    def has_alert(self, asset: str) -> bool:
        """Whether an alert is open, of an asset, or with `STREAM_ASSET` of the stream as a whole.

        Somebody may have called an asset so; its alerts are then told on the same topic, and count here, too.
        """
        if asset == STREAM_ASSET and (self.memory.drift.has_alert or self.memory.silence.is_silent("")):
            return True
        return self.state(asset) not in (AssetState.NORMAL, AssetState.LEARNING)
