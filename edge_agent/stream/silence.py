"""Silence as an alert: an asset that sends nothing any more, or many of them together.

Many that fall silent together have one cause, a gateway or a cable: they are one alert about the stream. It stands for
these assets only. An asset that falls silent later is told by itself, and one that it does not stand for never ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_agent.messages.event import FORGOTTEN, STREAM_ASSET, AlertEvent
from edge_agent.messages.text import printable
from edge_agent.messages.values import is_epoch_time
from edge_agent.stream.alarm_state import Level, Transition
from edge_agent.stream.events import EventMaker
from edge_agent.stream.heard import Heard
from edge_agent.stream.records import SILENCES, decode_record, encode_record
from edge_agent.stream.settings import StreamSettings

__all__ = ["Silence", "SilenceAlert"]

_STREAM = ""
"""Stands for the stream as a whole; no asset can be called so."""
_AT_ONCE = 20
"""More assets than this that fall silent between two looks are one alert."""
_SHOWN = 20
"""Most assets in a description."""
_KEPT = 1000
"""Most names in the record of the stream's alert."""

_Told = tuple[AlertEvent, tuple[str, bytes]]
"""An event, and the (key, record) pair to keep; an empty record deletes one."""


class SilenceAlert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A silence that was raised and has not ended; the journal keeps it."""

    id: str
    since_s: float
    """When it was raised, by the agent's clock, epoch seconds."""
    told_s: float = 0.0
    """Length of the silence at its last event, seconds of listening."""
    assets: tuple[str, ...] = ()
    """Of the stream's: the assets that it stands for, or the first of them."""


class Silence:
    """Raises and clears the alerts of one stream's silences.

    Args:
        settings: `silent_s` is the length of a silence that is told, and `alarm.reminder_s` the interval of the updates
            while it lasts, both in seconds of listening. With a `silent_s` of 0 none is told, and those open end.
        heard: knows how long each asset was silent.
        events: makes the stream's events.
        known_since: gives a number that is the higher the later an asset came, as `Roster.known_since`.
    """

    def __init__(
        self, settings: StreamSettings, *, heard: Heard, events: EventMaker, known_since: Callable[[str], int]
    ) -> None:
        self._limit_s = settings.silent_s
        self._reminder_s = settings.alarm.reminder_s
        self._heard = heard
        self._events = events
        self._known_since = known_since
        self.gone: set[str] = set()
        """Assets that have said themselves that they send nothing any more, since the last look: none is waited for."""
        self._alerts: dict[str, SilenceAlert] = {}
        """By asset; of the whole stream under "", which no asset can be called."""
        self._began_s: dict[str, float] = {}
        """For each alert, when its silence began, in seconds of listening since the start."""
        self._together: set[str] = set()
        """The assets that the alert of the stream stands for."""
        self._left_s = 0.0
        """When the last of them was found heard, or forgotten, in seconds of listening since the start."""
        self._told_count = 0
        """How many they were in the last event."""
        self._follow_s: dict[str, float] = {}
        """Those for which an alert of the stream stood that has ended: at which length of silence they are told."""

    def look(
        self, heard: set[str], now_s: float, is_muted: Callable[[str], bool]
    ) -> tuple[list[AlertEvent], list[tuple[str, bytes]]]:
        """Raise what has become silent, clear what was heard; to be called after each `Heard.note`.

        Args:
            heard: the assets that were heard since the last call.
            now_s: the time, epoch seconds.
            is_muted: whether nothing is told of an asset, or with "" of the whole stream.

        Returns:
            The events, and the (key, record) pairs to keep; an empty record deletes one.
        """
        gone, self.gone = self.gone, set()
        told = [*self._ended(heard - gone, now_s), *self._ended_together(heard - gone, now_s)]
        for asset in gone:
            if asset in self._heard and self._heard.silent_s(asset) < self._limit_s:
                self._heard.set_silent(asset, self._limit_s)
        if self._limit_s:
            told += self._begun(now_s, is_muted)
            told += self._updates(now_s, is_muted)
        return [event for event, _ in told], [record for _, record in told]

    def restore(self, key: str, record: bytes) -> Iterable[str]:
        """Put back a record, and give its asset, if it is of one.

        Raises:
            ValueError: the record is damaged, or of another kind.
        """
        asset = SILENCES.name_in(key) or _STREAM
        alert = decode_record(record, SilenceAlert)
        if not is_epoch_time(alert.since_s) or not 0 <= alert.told_s < math.inf:
            raise ValueError(f"{alert.since_s:g} is no time, or {alert.told_s:g} no length")
        self._alerts[asset] = alert
        return [asset] if asset else []

    def begin(self, assets: Iterable[str]) -> None:
        """Go on with what was restored: who was silent still is, for as long as was told last.

        Args:
            assets: all that are remembered.
        """
        stream = self._alerts.get(_STREAM)
        waited = frozenset(stream.assets if stream else ())
        for asset in assets:
            if asset in self._alerts:
                self._heard.set_silent(asset, self._alerts[asset].told_s)
            elif stream is not None and asset in waited:
                self._together.add(asset)
                self._heard.set_silent(asset, stream.told_s)
        self._told_count = len(self._together)
        listened_s = self._heard.listened_s
        self._began_s = {asset: listened_s - alert.told_s for asset, alert in self._alerts.items()}

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all open alerts, to begin a journal with."""
        return [self._record(asset) for asset in self._alerts]

    def describe(self) -> dict[str, Any]:
        """For the health message: whether there is an alert of the stream, how many assets are silent, and 20 names."""
        silent = {*self._alerts, *self._together, *self._follow_s} - {_STREAM}
        shown = [printable(name) for name in self._first(silent, _SHOWN)]
        return {"stream": _STREAM in self._alerts, "count": len(silent), "assets": shown}

    def is_silent(self, asset: str) -> bool:
        """Whether an alert is open that says so, of the asset or of the stream."""
        return asset in self._alerts or asset in self._together

    @property
    def open_alerts(self) -> int:
        """Number of alerts that are open, that of the stream counted as one."""
        return len(self._alerts)

    # What ends --------------------------------------------------------------------------------------------------

    def _ended(self, heard: set[str], now_s: float) -> list[_Told]:
        """Clear the silences of single assets that were heard, or are forgotten."""

        def lasts(asset: str) -> bool:
            return asset in self._heard and asset not in heard

        self._follow_s = {asset: due_s for asset, due_s in self._follow_s.items() if lasts(asset)}
        over = [asset for asset in self._alerts if asset and not (self._limit_s and lasts(asset))]
        return [self._clear(asset, now_s, is_known=asset in self._heard) for asset in over]

    def _ended_together(self, heard: set[str], now_s: float) -> list[_Told]:
        """Clear the silence of the stream when few of those that it stands for are left."""
        if _STREAM not in self._alerts:
            return []
        back = self._together & heard
        left = {asset for asset in self._together - back if asset in self._heard}
        if left != self._together:
            self._together, self._left_s = left, self._heard.listened_s
        is_over = not self._together or (bool(back) and len(self._together) <= _AT_ONCE)
        if self._limit_s and not is_over:
            return []
        for asset in self._together:
            self._follow_s[asset] = self._heard.silent_s(asset) + self._limit_s
        told = self._clear(_STREAM, now_s, is_known=bool(back) or not self._limit_s)
        self._together = set()
        return [told]

    # What begins ------------------------------------------------------------------------------------------------

    def _begun(self, now_s: float, is_muted: Callable[[str], bool]) -> list[_Told]:
        """Raise the silence of assets that are due now, or of all of them at once."""
        due = {asset for asset in self._heard.silent_for(self._limit_s) if self._is_due(asset)}
        if not due:
            return []
        # Where the whole stream is muted, its alert is kept back as well.
        apart: set[str] = set() if is_muted(_STREAM) else {asset for asset in self._heard.assets() if is_muted(asset)}
        others = {*self._heard.assets()} - self._alerts.keys() - self._together - apart
        # Nobody is heard any more, though not all of them are due yet.
        is_common = len(others) > 1 and self._heard.quiet_s > self._limit_s / 2
        joined = others if is_common else due - apart
        told = []
        if joined & due and (is_common or len(joined) > _AT_ONCE):
            told.append(self._join(joined, now_s))
            due -= joined
        return told + [self._raise(asset, self._heard.silent_s(asset), now_s) for asset in sorted(due)]

    def _is_due(self, asset: str) -> bool:
        """Whether the silence of an asset is to be told that has lasted for the limit."""
        if asset in self._alerts or asset in self._together:
            return False
        return self._heard.silent_s(asset) >= self._follow_s.get(asset, 0.0)

    def _join(self, assets: set[str], now_s: float) -> _Told:
        """Have the alert of the stream stand for these assets, too."""
        self._together |= assets
        if _STREAM in self._alerts:
            return self._update(_STREAM, now_s)
        return self._raise(_STREAM, max(self._heard.silent_s(asset) for asset in assets), now_s)

    def _updates(self, now_s: float, is_muted: Callable[[str], bool]) -> list[_Told]:
        """Remind of silences, and tell that the stream's is of fewer assets once no more of them come back."""
        is_due = []
        for asset, alert in self._alerts.items():
            # With the whole stream it is muted itself: then what is kept back of it must be as it is.
            if asset == _STREAM and not is_muted(_STREAM) and all(map(is_muted, self._together)):
                continue
            reminds = 0 < self._reminder_s <= self._length_s(asset) - alert.told_s
            fewer = asset == _STREAM and len(self._together) < self._told_count
            if reminds or (fewer and self._heard.listened_s - self._left_s >= self._limit_s):
                is_due.append(asset)
        return [self._update(asset, now_s) for asset in is_due]

    # Events -----------------------------------------------------------------------------------------------------

    def _raise(self, asset: str, silent_s: float, now_s: float) -> _Told:
        self._began_s[asset] = self._heard.listened_s - silent_s
        name = self._events.level_id(Level.SILENT, asset or STREAM_ASSET, now_s)
        self._alerts[asset] = SilenceAlert(id=name, since_s=now_s)
        self._note(asset)
        return self._event(Transition.RAISE, asset, now_s), self._record(asset)

    def _update(self, asset: str, now_s: float) -> _Told:
        self._note(asset)
        return self._event(Transition.UPDATE, asset, now_s), self._record(asset)

    def _clear(self, asset: str, now_s: float, *, is_known: bool) -> _Told:
        event = replace(self._event(Transition.CLEAR, asset, now_s), score=0.0, silent_s=self._length_s(asset))
        if not is_known:
            event = replace(event, reason=FORGOTTEN)
        del self._alerts[asset], self._began_s[asset]
        return event, (SILENCES.of(asset), b"")

    def _note(self, asset: str) -> None:
        """Note what an event tells now."""
        kept = () if asset else tuple(self._first(self._together, _KEPT))
        self._alerts[asset] = replace(self._alerts[asset], told_s=self._length_s(asset), assets=kept)
        if not asset:
            self._told_count = len(self._together)

    def _length_s(self, asset: str) -> float:
        """For how long an asset is silent, or was; for the stream, the first of those that it was raised for."""
        return round(self._heard.listened_s - self._began_s[asset], 3)

    def _first(self, assets: Iterable[str], count: int) -> list[str]:
        """Those known longest, because names that somebody makes up are new; then those that fell silent last."""
        silent_s = self._heard.silent_s
        return nsmallest(count, assets, key=lambda name: (self._known_since(name), silent_s(name), name))

    def _event(self, transition: Transition, asset: str, now_s: float) -> AlertEvent:
        alert = self._alerts[asset]
        event = self._events.of_level(
            Level.SILENT,
            transition,
            asset or STREAM_ASSET,
            name=alert.id,
            since_s=alert.since_s,
            time_s=now_s,
            score=self._length_s(asset),
            threshold=self._limit_s,
            channels=[],
        )
        if asset:
            return event
        return replace(event, count=len(self._together), assets=self._first(self._together, _SHOWN))

    def _record(self, asset: str) -> tuple[str, bytes]:
        return SILENCES.of(asset), encode_record(self._alerts[asset])
