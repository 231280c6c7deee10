"""Which events of alerts are told now: none of what is muted, and in a storm one for all.

Alarms go on underneath. An alert that was not told is kept, and told as soon as there is no reason left not to, if it
is still open then. One that ends before is not told at all; the end of one that was told always is.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_agent.messages.event import LONGEST_MUTE_S, STREAM_ASSET, AlertEvent, MutedEvent, StormEvent, event_id
from edge_agent.messages.text import decode, encode, iso_time, printable
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.messages.values import is_epoch_time, read_iso_time
from edge_agent.stream.alarm_state import Level, Transition
from edge_agent.stream.records import MUTES_RECORD, STORMS, SUPPRESSED, decode_record, encode_record
from edge_agent.stream.storm import Storm, StormRecord, StormSettings

__all__ = ["Reason", "Suppression"]

log = logging.getLogger(__name__)

_STREAM = ""
"""Stands for the stream as a whole; no asset can be called so."""
_SHOWN = 20
"""Most assets in a description."""
_STAYS = 10
"""An alert that is open for so many times `window_s` is told also while its storm goes on, if few are. Sooner, the
first ones of a storm that grows would be told, which are few at first."""
_KEPT_CHANNELS = 3
"""Channels of an event that is kept, those with the largest shares: there may be thousands of events."""

Told = tuple[list[AlertEvent | StormEvent | MutedEvent], list[tuple[str, bytes]]]
"""Events to publish, in order, and the (key, record) pairs to keep; an empty record deletes one."""


class Reason(StrEnum):
    """Why an event is not told."""

    MUTED = "muted"
    STORM = "storm"
    STORM_OF_NEW = "storm_of_new"
    """A storm of assets that came with it. It is one by itself, so that names that anybody makes up do not hide the
    alerts of assets that were there before."""


class Suppressed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be told of an alert later, if it is still open; the journal keeps it."""

    reason: Reason
    asset: str
    level: str
    kind: str
    """`raise` or `flapping` where nothing was told of the alert; `update` where it was raised before."""
    known_since: int
    """`Roster.known_since` of the asset; 0 in a later run."""
    event: bytes
    """JSON of the event to publish."""


class Mutes(msgspec.Struct, frozen=True):
    """What is muted; the journal keeps it."""

    until_s: dict[str, float]
    """By asset, epoch seconds; of the whole stream under ""."""


class Suppression:
    """Takes the events of one stream one by one, and gives those that are to be told, in order.

    Args:
        settings: when there is a storm.
        agent: the agent's id.
        stream: the stream's name.
    """

    def __init__(self, settings: StormSettings, *, agent: str, stream: str) -> None:
        self._agent = agent
        self._stream = stream
        self._limit = settings.raises
        self._storms = {
            reason: Storm(settings, agent=agent, stream=stream, of_new=reason is Reason.STORM_OF_NEW)
            for reason in (Reason.STORM, Reason.STORM_OF_NEW)
        }
        self._window_s = settings.window_s
        self._met: deque[tuple[float, int]] = deque()
        """When `look` was called (monotonic), and the number of the newest asset then."""
        self._began_mono_s: float | None = None
        self._mutes: dict[str, float] = {}
        self._longest_mono_s: dict[str, float] = {}
        """When each mute of this run is over at the latest, monotonic: a clock may be set."""
        self._kept: dict[str, Suppressed] = {}
        """By the alert's id, in order."""
        self._kept_mono_s: dict[str, float] = {}
        """When each of them was first there at a look, monotonic."""
        self._events: list[AlertEvent | StormEvent | MutedEvent] = []
        self._changed: dict[str, bytes] = {}
        """Records that the journal does not have yet."""

    # Events -----------------------------------------------------------------------------------------------------

    def sift(self, event: AlertEvent, known_since: int = 0) -> Reason | None:
        """Let `take` give an event, or keep it to be told later; gives the reason for that, None if it is told now.

        Args:
            event: the next one.
            known_since: `Roster.known_since` of its asset.
        """
        kept = self._kept.get(event.id)
        if event.event == Transition.CLEAR:
            if kept is not None:
                self._forget(event.id)
            if kept is None or kept.kind == Transition.UPDATE:
                self._events.append(event)
                return None
            return kept.reason
        if event.event != Transition.UPDATE:
            reason = self._reason(event.asset, read_iso_time(event.time), known_since)
        elif kept is not None:
            return self._change(kept, event)
        else:
            reason = Reason.MUTED if self.is_muted(event.asset) else None
        if reason is None:
            self._events.append(event)
        else:
            self._keep(event, event.event, reason, known_since)
        return reason

    def take(self) -> Told:
        """What there is to publish since the last call, and what must be written before."""
        for reason, storm in self._storms.items() if self._changed else ():
            begun = storm.begun(self._open_of(reason))
            if begun is not None:
                self._events.append(begun)
            if storm.is_on:
                self._note_storm(reason)
        events, records = self._events, [*self._changed.items()]
        self._events, self._changed = [], {}
        return events, records

    def look(self, now_mono_s: float, now_s: float, newest: int = 0) -> None:
        """End what has lasted long enough; to be called now and then, and followed by `take`.

        Args:
            now_mono_s: monotonic.
            now_s: the time, epoch seconds.
            newest: `Roster.newest`.
        """
        if self._began_mono_s is None:
            self._began_mono_s = now_mono_s
        self._met.append((now_mono_s, newest))
        while len(self._met) > 1 and now_mono_s - self._met[1][0] >= self._window_s:
            self._met.popleft()
        for asset, until_s in [*self._mutes.items()]:
            if until_s <= now_s or now_mono_s >= self._longest_mono_s.setdefault(
                asset, now_mono_s + min(until_s - now_s, LONGEST_MUTE_S)
            ):
                self._unmute(asset, now_s)
        # Nothing is told of a stream that is muted, so its storms wait.
        for reason, storm in self._storms.items() if _STREAM not in self._mutes else ():
            self._look_at(reason, storm, now_mono_s, now_s)

    def _look_at(self, reason: Reason, storm: Storm, now_mono_s: float, now_s: float) -> None:
        open_assets = self._open_of(reason) if self._limit else []
        told = storm.look(now_mono_s, now_s, open_assets)
        if told is not None:
            self._events.append(told)
            self._note_storm(reason)
        mine = [(name, kept) for name, kept in self._kept.items() if kept.reason is reason]
        if storm.is_on:
            # In a storm without an end too, the few that stay open are told.
            mine = [
                (name, kept)
                for name, kept in mine
                if now_mono_s - self._kept_mono_s.setdefault(name, now_mono_s) >= _STAYS * self._window_s
            ]
        if not storm.is_on or len(mine) <= self._limit:
            for name, kept in mine:
                self._tell(name, kept)

    # Muting -----------------------------------------------------------------------------------------------------

    def mute(self, asset: str | None, until_s: float, now_s: float, *, is_known: bool = True) -> None:
        """Tell nothing of an asset until a time, or tell of it again; to be followed by `take`.

        Args:
            asset: None for the whole stream.
            until_s: epoch seconds, not later than in 31 days; a time that has come ends it.
            now_s: the time, epoch seconds.
            is_known: the asset was heard.
        """
        name = _STREAM if asset is None else asset
        begins = until_s > now_s
        if not begins and name not in self._mutes:
            log.warning("not muted, so there is nothing to end stream=%s asset=%s", self._stream, asset or "all")
            return
        self._longest_mono_s.pop(name, None)
        if begins:
            self._mutes[name] = min(until_s, now_s + LONGEST_MUTE_S)
            self._note_mutes()
            log.info("muted stream=%s asset=%s until=%s", self._stream, asset or "all", iso_time(self._mutes[name]))
        else:
            del self._mutes[name]
        # What the stream's mute covers is still muted when the asset's own is over.
        until = iso_time(max(self._mutes.get(name, now_s), self._mutes.get(_STREAM, now_s)))
        told = MutedEvent(
            id=event_id(self._agent, self._stream, "mute", name, repr(now_s)),
            agent=self._agent,
            stream=self._stream,
            asset=asset or STREAM_ASSET,
            scope="stream" if asset is None else "asset",
            until=until,
            known=is_known,
            time=iso_time(now_s),
        )
        self._events.append(told)
        if not begins:
            self._unmuted(name, now_s)

    def is_muted(self, asset: str) -> bool:
        """Whether nothing is told of an asset now, by its own mute or the stream's; of "", by the stream's."""
        return bool(self._mutes) and (asset in self._mutes or _STREAM in self._mutes)

    def _unmute(self, asset: str, now_s: float) -> None:
        del self._mutes[asset]
        self._longest_mono_s.pop(asset, None)
        self._unmuted(asset, now_s)

    def _unmuted(self, asset: str, now_s: float) -> None:
        log.info("no longer muted stream=%s asset=%s", self._stream, asset or "all")
        self._note_mutes()
        for name, kept in [*self._kept.items()]:
            if kept.reason is not Reason.MUTED or self.is_muted(kept.asset):
                continue
            # All that comes back at once is a storm too, whenever it was raised.
            if kept.kind != Transition.UPDATE and self._storms[Reason.STORM].takes(kept.asset, now_s):
                self._put(name, replace(kept, reason=Reason.STORM))
            else:
                self._tell(name, kept)

    # What is kept back ------------------------------------------------------------------------------------------

    def _reason(self, asset: str, time_s: float, known_since: int) -> Reason | None:
        """Why a raise is not told."""
        if self.is_muted(asset):
            return Reason.MUTED
        # Of earlier runs all are known; of this one, those that have been here for `window_s`. In a run that is younger
        # nobody can tell: most assets of the one before are met anew.
        is_old = not self._met or self._met[-1][0] - (self._began_mono_s or 0.0) < self._window_s
        reason = Reason.STORM if is_old or known_since <= self._met[0][1] else Reason.STORM_OF_NEW
        return reason if self._storms[reason].takes(asset, time_s) else None

    def _change(self, kept: Suppressed, event: AlertEvent) -> Reason | None:
        """An update of an alert that is kept back: if it is told, then as it is now."""
        now = replace(event, event=kept.kind)
        storm = None if self.is_muted(event.asset) else self._storms.get(kept.reason)
        is_worse = event.level == Level.ALARM and kept.level != event.level
        if is_worse and storm is not None and not storm.is_full(event.asset, read_iso_time(event.time)):
            self._forget(event.id)
            self._events.append(now)
            return None
        changed = replace(kept, level=event.level, event=encode(_shortened(now, kept.reason)))
        if kept.level == event.level:  # a reminder is not worth a write
            self._kept[event.id] = changed
        else:
            self._put(event.id, changed)
        return kept.reason

    def _keep(self, event: AlertEvent, kind: str, reason: Reason, known_since: int) -> None:
        kept = Suppressed(
            reason=reason,
            asset=event.asset,
            level=event.level,
            kind=kind,
            known_since=known_since,
            event=encode(_shortened(event, reason)),
        )
        self._put(event.id, kept)

    def _put(self, name: str, kept: Suppressed) -> None:
        self._kept[name] = kept
        self._changed[SUPPRESSED.of(name)] = encode_record(replace(kept, known_since=0))

    def _tell(self, name: str, kept: Suppressed) -> None:
        """Tell of an alert that was kept back, unless there is another reason by now."""
        if kept.reason is not Reason.MUTED and self.is_muted(kept.asset):
            self._put(name, replace(kept, reason=Reason.MUTED))
            return
        self._events.append(decode(kept.event, AlertEvent))
        self._forget(name)

    def _forget(self, name: str) -> None:
        del self._kept[name]
        self._kept_mono_s.pop(name, None)
        self._changed[SUPPRESSED.of(name)] = b""

    def _open_of(self, reason: Reason) -> list[str]:
        """The assets whose open alerts only a storm's event tells, known longest first."""
        mine = [kept for kept in self._kept.values() if kept.reason is reason]
        return [kept.asset for kept in sorted(mine, key=lambda kept: kept.known_since)]

    # The journal ------------------------------------------------------------------------------------------------

    def _note_storm(self, reason: Reason) -> None:
        record = self._storms[reason].record()
        self._changed[STORMS.of(reason)] = b"" if record is None else encode_record(record)

    def _note_mutes(self) -> None:
        self._changed[MUTES_RECORD] = encode_record(Mutes(self._mutes)) if self._mutes else b""

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all that is kept, to begin a journal with."""
        storms = {reason: storm.record() for reason, storm in self._storms.items()}
        return [
            *((SUPPRESSED.of(name), encode_record(kept)) for name, kept in self._kept.items()),
            *([(MUTES_RECORD, encode_record(Mutes(self._mutes)))] if self._mutes else []),
            *((STORMS.of(reason), encode_record(record)) for reason, record in storms.items() if record is not None),
        ]

    def restore(self, records: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Put back the records that are of this kind, and give the others."""
        others: list[tuple[str, bytes]] = []
        for key, record in records:
            try:
                if not self._restore(key, record):
                    others.append((key, record))
            except ValueError as exc:
                log.warning("record cannot be read stream=%s key=%r error=%s", self._stream, key, exc)
        return others

    def _restore(self, key: str, record: bytes) -> bool:
        name, storm = SUPPRESSED.name_in(key), STORMS.name_in(key)
        if name is not None:
            kept = decode_record(record, Suppressed)
            event = decode(kept.event, AlertEvent)
            if (event.id, event.stream, event.asset) != (name, self._stream, kept.asset) or not can_be_asset(
                kept.asset
            ):
                raise ValueError("its event is of another alert")
            if event.agent != self._agent:  # its id was changed
                kept = replace(kept, event=encode(replace(event, agent=self._agent)))
            self._kept[name] = kept
        elif key == MUTES_RECORD:
            mutes = decode_record(record, Mutes).until_s
            if not all(map(is_epoch_time, mutes.values())):
                raise ValueError("it has no times")
            self._mutes = mutes
        elif storm is not None:
            self._storms[Reason(storm)].restore(decode_record(record, StormRecord))
        else:
            return False
        return True

    def untold(self) -> list[str]:
        """The assets with an open alert that was never told, known longest first."""
        kept = sorted(self._kept.values(), key=lambda each: each.known_since)
        return [*dict.fromkeys(each.asset for each in kept if each.kind != Transition.UPDATE)]

    # Health -----------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """For the health message: what is muted, a storm, and how many open alerts are not told, and of whom."""
        muted = sorted(self._mutes.keys() - {_STREAM})
        stream_s = self._mutes.get(_STREAM)
        untold = self.untold()
        return {
            "muted": {
                "stream": None if stream_s is None else iso_time(stream_s),
                "count": len(muted),
                "assets": {printable(asset): iso_time(self._mutes[asset]) for asset in muted[:_SHOWN]},
            },
            "storms": [told for storm in self._storms.values() if (told := storm.describe()) is not None],
            "untold": {"count": len(untold), "assets": [printable(asset) for asset in untold[:_SHOWN]]},
        }


def _shortened(event: AlertEvent, reason: Reason) -> AlertEvent:
    kept_back = "muted" if reason is Reason.MUTED else "storm"
    return replace(event, channels=event.channels[:_KEPT_CHANNELS], kept_back=kept_back)
