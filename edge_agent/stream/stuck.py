"""A frozen value as an alert: a channel that has had one value for too many readings of its asset."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from edge_agent.messages.event import FORGOTTEN, AlertEvent, ChannelShare
from edge_agent.messages.reading import Readings
from edge_agent.messages.text import printable
from edge_agent.messages.values import is_epoch_time
from edge_agent.stream.alarm_state import Level, Transition
from edge_agent.stream.events import EventMaker
from edge_agent.stream.records import STUCK, decode_record, encode_record

__all__ = ["Stuck", "StuckAlert"]

_RUNS_BYTES, _RUN_BYTES = 250, 68
_SHOWN = 20
"""Most assets in a description."""


class StuckAlert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Frozen values of one asset that were told; the journal keeps them."""

    id: str
    since_s: float
    """Time of the reading that raised it, epoch seconds."""
    values: dict[str, float]
    """By channel, the value that does not change, in its unit."""


class Stuck:
    """Counts for how many readings each value is the same, and raises and clears the alerts of it.

    A missing value is no reading of its channel.

    Args:
        limit: readings of one value that are told; 0 tells none.
        channels: their names, in the manifest's order.
        events: makes the stream's events.
    """

    def __init__(self, limit: int, channels: Sequence[str], events: EventMaker) -> None:
        self._limit = limit
        self._channels = channels
        self._events = events
        self._runs: dict[str, tuple[list[float], list[int]]] = {}
        self._alerts: dict[str, StuckAlert] = {}
        self._news: list[tuple[AlertEvent, tuple[str, bytes]]] = []

    @property
    def asset_bytes(self) -> int:
        """Bytes that one asset takes, about: two lists, of Python's floats and integers."""
        return _RUNS_BYTES + _RUN_BYTES * len(self._channels) if self._limit else 0

    @property
    def assets(self) -> set[str]:
        """Those with an open alert."""
        return {*self._alerts}

    def is_stuck(self, asset: str) -> bool:
        """Whether the asset has an open alert."""
        return asset in self._alerts

    def sent(self, readings: Readings) -> list[list[float]]:
        """The values of a batch as they are now, for `add`; none where nothing is told."""
        return readings.values.tolist() if self._limit else []

    def add(self, readings: Readings, sent: list[list[float]], late: Collection[int]) -> None:
        """Count the values of a batch.

        Args:
            readings: in order of arrival.
            sent: from `sent`, before missing values were held.
            late: indices of the readings that came late. They count for nothing: what was measured before the last
                reading is no change of it.
        """
        # In Python, not in arrays: most batches have few readings, of different assets.
        for row, fields in enumerate(sent):
            if row in late:
                continue
            asset = readings.assets[row]
            values, counts = self._of(asset)
            for place, value in enumerate(fields):
                if value == values[place]:
                    counts[place] += 1
                elif not math.isnan(value):  # it is missing
                    values[place], counts[place] = value, 1
            if max(counts) >= self._limit or asset in self._alerts:
                self._tell(asset, readings.times[row])

    def take(self) -> list[tuple[AlertEvent, tuple[str, bytes]]]:
        """Each event since the last call, with the (key, record) pair to keep; an empty record deletes one."""
        news, self._news = self._news, []
        return news

    def drop(self, asset: str) -> None:
        """Forget an asset, and clear its alert."""
        self._runs.pop(asset, None)
        if asset in self._alerts:
            self._clear(asset, self._alerts[asset].since_s, FORGOTTEN)

    def restore(self, key: str, record: bytes) -> str:
        """Put back a record, and give its asset. Where nothing is told any more, the alert is cleared.

        Raises:
            ValueError: the record is damaged, or of another kind.
        """
        asset = STUCK.name_in(key) or ""
        alert = decode_record(record, StuckAlert)
        if not asset or not is_epoch_time(alert.since_s):
            raise ValueError("it has no asset, or no time")
        self._alerts[asset] = alert
        places = {self._channels.index(name): value for name, value in alert.values.items() if name in self._channels}
        if not self._limit or not places:
            self._clear(asset, alert.since_s, None)
            return asset
        values, counts = self._of(asset)
        for place, value in places.items():
            values[place], counts[place] = value, self._limit
        return asset

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all open alerts, to begin a journal with."""
        return [(STUCK.of(asset), encode_record(alert)) for asset, alert in self._alerts.items()]

    def describe(self) -> dict[str, Any]:
        """For the health message: how many assets have frozen values, and which channels of 20 of them."""
        shown = sorted(self._alerts)[:_SHOWN]
        names = {printable(asset): sorted(self._alerts[asset].values)[:_SHOWN] for asset in shown}
        return {"count": len(self._alerts), "assets": names}

    def _of(self, asset: str) -> tuple[list[float], list[int]]:
        """The last value of each channel of an asset, and in how many readings it was the same."""
        found = self._runs.get(asset)
        if found is None:
            width = len(self._channels)
            found = self._runs[asset] = ([math.nan] * width, [0] * width)
        return found

    def _tell(self, asset: str, time_s: float) -> None:
        """Raise, update or clear the alert of an asset, if the channels that are frozen have changed."""
        values, counts = self._runs[asset]
        found = {
            name: value
            for name, value, count in zip(self._channels, values, counts, strict=True)
            if count >= self._limit
        }
        alert = self._alerts.get(asset)
        if alert is not None and not found:
            self._clear(asset, time_s, None)
        elif alert is None:
            name = self._events.level_id(Level.STUCK, asset, time_s)
            self._keep(Transition.RAISE, asset, StuckAlert(id=name, since_s=time_s, values=found), max(counts), time_s)
        elif alert.values.keys() != found.keys():
            changed = msgspec.structs.replace(alert, values=found)
            self._keep(Transition.UPDATE, asset, changed, max(counts), time_s)

    def _keep(self, transition: Transition, asset: str, alert: StuckAlert, count: int, time_s: float) -> None:
        self._alerts[asset] = alert
        event = self._event(transition, asset, alert, count, time_s)
        self._news.append((event, (STUCK.of(asset), encode_record(alert))))

    def _clear(self, asset: str, time_s: float, reason: str | None) -> None:
        event = self._event(Transition.CLEAR, asset, self._alerts.pop(asset), 1, time_s)
        if reason is not None:
            event = msgspec.structs.replace(event, reason=reason)
        self._news.append((event, (STUCK.of(asset), b"")))

    def _event(self, transition: Transition, asset: str, alert: StuckAlert, count: int, time_s: float) -> AlertEvent:
        share = round(1 / max(1, len(alert.values)), 4)
        channels = [ChannelShare(name, share, value) for name, value in alert.values.items()]
        return self._events.of_level(
            Level.STUCK,
            transition,
            asset,
            name=alert.id,
            since_s=alert.since_s,
            time_s=time_s,
            score=float(count),
            threshold=float(self._limit),
            channels=channels,
        )
