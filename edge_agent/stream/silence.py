"""Silence as an alert: an asset that sends nothing any more, or a whole stream of them.

Many that fall silent together have one cause, a gateway or a cable: they are one alert about the stream. It ends when
one of them is heard, and the others then have `silent_s` to follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from edge_agent.messages.event import FORGOTTEN, STREAM_ASSET, AlertEvent
from edge_agent.messages.text import printable
from edge_agent.messages.values import is_epoch_time
from edge_agent.stream.alarm_state import Level, Transition
from edge_agent.stream.events import EventMaker
from edge_agent.stream.heard import Heard
from edge_agent.stream.records import asset_of_silence, decode_record, encode_record, silence_key

__all__ = ["Silence", "SilenceAlert"]

_STREAM = ""
"""Stands for the stream as a whole; no asset can be called so."""
_AT_ONCE = 20
"""More assets than this that fall silent between two looks are one alert."""
_SHOWN = 20
"""Most assets in a description."""


class SilenceAlert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A silence that was raised and has not ended; the journal keeps it."""

    id: str
    since_s: float
    """When it was raised, by the agent's clock, epoch seconds."""
    told_s: float = 0.0
    """Length of the silence at its last event, seconds of listening."""


class Silence:
    """Raises and clears the alerts of one stream's silences.

    Args:
        silent_s: length of a silence that is told, seconds of listening; 0 tells none, and ends those that are open.
        reminder_s: an `update` is sent in this interval while a silence lasts, seconds of listening; 0 sends none.
        heard: knows how long each asset was silent.
        events: makes the stream's events.
    """

    def __init__(self, silent_s: float, reminder_s: float, heard: Heard, events: EventMaker) -> None:
        self._limit_s = silent_s
        self._reminder_s = reminder_s
        self._heard = heard
        self._events = events
        self._alerts: dict[str, SilenceAlert] = {}
        """By asset; of the whole stream under "", which no asset can be called."""
        self._waited_for: set[str] = set()
        """Assets whose silence is told by the alert of the stream."""

    def look(self, heard: Collection[str], now_s: float) -> tuple[list[AlertEvent], list[tuple[str, bytes]]]:
        """Raise what has become silent, clear what was heard; to be called after each `Heard.note`.

        Args:
            heard: the assets that were heard since the last call.
            now_s: the time, epoch seconds.

        Returns:
            The events, and the (key, record) pairs to keep; an empty record deletes one.
        """
        told = [self._clear(asset, now_s) for asset in [*self._alerts] if self._has_ended(asset, heard)]
        silent = self._heard.silent_for(self._limit_s) if self._limit_s else []
        new = [asset for asset in silent if asset not in self._alerts and asset not in self._waited_for]
        if _STREAM in self._alerts:
            self._waited_for.intersection_update(self._heard.assets())
            self._waited_for.update(new)
        elif new:
            others = {*self._heard.assets()} - self._alerts.keys()
            # Nobody is heard any more, though not all of them are due yet.
            is_common = len(others) > 1 and self._heard.quiet_s > self._limit_s / 2
            if is_common or len(new) > _AT_ONCE:
                self._waited_for = others if is_common else {*new}
                told.append(self._raise(_STREAM, now_s))
            else:
                told += [self._raise(asset, now_s) for asset in new]
        told += self._reminders(now_s)
        return [event for event, _ in told], [record for _, record in told]

    def _has_ended(self, asset: str, heard: Collection[str]) -> bool:
        if not self._limit_s:
            return True
        if asset:
            return asset in heard or asset not in self._heard
        # Nobody is known to wait for if a crash took the names, or those that were silent are forgotten.
        return bool(heard) and (not self._waited_for or not self._waited_for.isdisjoint(heard))

    def restore(self, key: str, record: bytes) -> Iterable[str]:
        """Put back a record, and give its asset, if it is of one.

        Raises:
            ValueError: the record is damaged, or of another kind.
        """
        asset = asset_of_silence(key) or _STREAM
        alert = decode_record(record, SilenceAlert)
        if not is_epoch_time(alert.since_s):
            raise ValueError(f"{alert.since_s:g} is no time")
        self._alerts[asset] = alert
        return [asset] if asset else []

    def begin(self, assets: Iterable[str]) -> None:
        """Go on with what was restored: who was silent still is.

        Args:
            assets: all that are remembered.
        """
        for asset in assets:
            if asset in self._alerts:
                self._heard.set_silent(asset, self._limit_s)
                self._alerts[asset] = msgspec.structs.replace(self._alerts[asset], told_s=self._limit_s)
            elif _STREAM in self._alerts:
                self._waited_for.add(asset)
                self._heard.set_silent(asset, self._limit_s)
        if _STREAM in self._alerts:
            self._alerts[_STREAM] = msgspec.structs.replace(self._alerts[_STREAM], told_s=self._limit_s)

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all open alerts, to begin a journal with."""
        return [self._record(asset) for asset in self._alerts]

    def describe(self) -> dict[str, Any]:
        """For the health message: whether the whole stream is silent, and how many assets, and 20 of their names."""
        names = sorted({*self._alerts, *self._waited_for} - {_STREAM})
        shown = [printable(name) for name in names[:_SHOWN]]
        return {"stream": _STREAM in self._alerts, "count": len(names), "assets": shown}

    @property
    def open_alerts(self) -> int:
        """Number of alerts that are open, that of the stream counted as one."""
        return len(self._alerts)

    def _raise(self, asset: str, now_s: float) -> tuple[AlertEvent, tuple[str, bytes]]:
        name = self._events.level_id(Level.SILENT, asset or STREAM_ASSET, now_s)
        self._alerts[asset] = SilenceAlert(id=name, since_s=now_s, told_s=self._length_s(asset))
        return self._event(Transition.RAISE, asset, now_s), self._record(asset)

    def _clear(self, asset: str, now_s: float) -> tuple[AlertEvent, tuple[str, bytes]]:
        event = self._event(Transition.CLEAR, asset, now_s)
        if asset and asset not in self._heard:
            event = msgspec.structs.replace(event, reason=FORGOTTEN)
        del self._alerts[asset]
        if not asset:
            for waited in self._waited_for:
                self._heard.set_silent(waited, 0.0)
            self._waited_for.clear()
        return event, (silence_key(asset), b"")

    def _reminders(self, now_s: float) -> list[tuple[AlertEvent, tuple[str, bytes]]]:
        told = []
        for asset, alert in self._alerts.items() if self._reminder_s else ():
            length_s = self._length_s(asset)
            if length_s - alert.told_s >= self._reminder_s:
                self._alerts[asset] = msgspec.structs.replace(alert, told_s=length_s)
                told.append((self._event(Transition.UPDATE, asset, now_s), self._record(asset)))
        return told

    def _length_s(self, asset: str) -> float:
        """For how long an asset is silent; for the stream, how long the first of those that it waits for."""
        return max((self._heard.silent_s(each) for each in ([asset] if asset else self._waited_for)), default=0.0)

    def _event(self, transition: Transition, asset: str, now_s: float) -> AlertEvent:
        alert = self._alerts[asset]
        return self._events.of_level(
            Level.SILENT,
            transition,
            asset or STREAM_ASSET,
            name=alert.id,
            since_s=alert.since_s,
            time_s=now_s,
            score=0.0 if transition is Transition.CLEAR else round(self._length_s(asset), 3),
            threshold=self._limit_s,
            channels=[],
        )

    def _record(self, asset: str) -> tuple[str, bytes]:
        return silence_key(asset), encode_record(self._alerts[asset])
