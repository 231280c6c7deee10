"""Which events of alerts are told now: none of what is muted, and in a storm one for all.

Alarms go on underneath. An alert that was not told is kept, and told as soon as there is no reason left not to, if it
is still open then. One that ends before is not told at all; the end of one that was told always is.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_agent.messages.event import STREAM_ASSET, AlertEvent, MutedEvent, StormEvent, event_id
from edge_agent.messages.text import decode, encode, iso_time, printable
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.messages.values import is_epoch_time, read_iso_time
from edge_agent.stream.alarm_state import Level, Transition
from edge_agent.stream.records import (
    MUTES_RECORD,
    decode_record,
    encode_record,
    id_of_suppressed,
    reason_of_storm,
    storm_key,
    suppressed_key,
)
from edge_agent.stream.storm import Storm, StormRecord, StormSettings

__all__ = ["Reason", "Suppression"]

log = logging.getLogger(__name__)

_STREAM = ""
"""Stands for the stream as a whole; no asset can be called so."""
_SHOWN = 20
"""Most assets in a description."""

Told = tuple[list[AlertEvent | StormEvent | MutedEvent], list[tuple[str, bytes]]]
"""Events to publish, and the (key, record) pairs to keep; an empty record deletes one."""


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
    event: bytes
    """JSON of the event to publish."""


class Mutes(msgspec.Struct, frozen=True):
    """What is muted; the journal keeps it."""

    until_s: dict[str, float]
    """By asset, epoch seconds; of the whole stream under ""."""


class Suppression:
    """Takes the events of one stream one by one, and keeps back those that are not to be told.

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
        self._mutes: dict[str, float] = {}
        self._kept: dict[str, Suppressed] = {}
        """By the alert's id, in order."""
        self._events: list[AlertEvent | StormEvent | MutedEvent] = []
        self._changed: dict[str, bytes] = {}
        """Records that the journal does not have yet."""

    # Events -----------------------------------------------------------------------------------------------------

    def sift(self, event: AlertEvent, known_since: int = 0) -> Reason | None:
        """Say why an event is not told, and keep it if it is to be told later; None if it is told now.

        `take` gives what must be written, and is to be called before the events are published.

        Args:
            event: the next one.
            known_since: `Roster.known_since` of its asset.
        """
        kept = self._kept.get(event.id)
        if event.event == Transition.CLEAR:
            if kept is None:
                return None
            self._forget(event.id)
            return None if kept.kind == Transition.UPDATE else kept.reason
        if event.event != Transition.UPDATE:
            reason = self._reason(event.asset, read_iso_time(event.time), known_since)
            return None if reason is None else self._keep(event, event.event, reason)
        if kept is None:
            return self._keep(event, event.event, Reason.MUTED) if self._is_muted(event.asset) else None
        return self._change(kept, event)

    def take(self) -> Told:
        """What there is to publish beside the events that `sift` let through, and what must be written."""
        for reason, storm in self._storms.items() if self._changed else ():
            begun = storm.begun(self._still_open(reason))
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
        self._met.append((now_mono_s, newest))
        while len(self._met) > 1 and now_mono_s - self._met[1][0] >= self._window_s:
            self._met.popleft()
        for asset in [asset for asset, until_s in self._mutes.items() if until_s <= now_s]:
            self._unmute(asset, now_s)
        for reason, storm in self._storms.items():
            told = storm.look(now_mono_s, self._still_open(reason))
            if told is not None:
                self._events.append(told)
                self._note_storm(reason)
            if not storm.is_on and (not self._limit or self._still_open(reason) <= self._limit):
                for name, kept in [*self._kept.items()]:
                    if kept.reason is reason:
                        self._tell(name, kept)

    # Muting -----------------------------------------------------------------------------------------------------

    def mute(self, asset: str | None, until_s: float, now_s: float) -> None:
        """Tell nothing of an asset until a time, or tell of it again; to be followed by `take`.

        Args:
            asset: None for the whole stream.
            until_s: epoch seconds; a time that has come ends it.
            now_s: the time, epoch seconds.
        """
        name = _STREAM if asset is None else asset
        begins = until_s > now_s
        if not begins and name not in self._mutes:
            log.warning("nothing to end, or its time is over: mute stream=%s asset=%s", self._stream, asset or "all")
            return
        until = iso_time(until_s if begins else now_s)
        told = MutedEvent(
            id=event_id(self._agent, self._stream, "mute", name, repr(now_s)),
            agent=self._agent,
            stream=self._stream,
            asset=asset or STREAM_ASSET,
            until=until,
            time=iso_time(now_s),
        )
        self._events.append(told)
        if begins:
            self._mutes[name] = until_s
            log.info("muted stream=%s asset=%s until=%s", self._stream, asset or "all", until)
            self._note_mutes()
        else:
            self._unmute(name, now_s)

    def _unmute(self, asset: str, now_s: float) -> None:
        del self._mutes[asset]
        log.info("no longer muted stream=%s asset=%s", self._stream, asset or "all")
        self._note_mutes()
        for name, kept in [*self._kept.items()]:
            if kept.reason is not Reason.MUTED or self._is_muted(kept.asset):
                continue
            # All that comes back at once is a storm too, whenever it was raised.
            if kept.kind != Transition.UPDATE and self._storms[Reason.STORM].takes(kept.asset, now_s):
                self._put(name, replace(kept, reason=Reason.STORM))
            else:
                self._tell(name, kept)

    def _is_muted(self, asset: str) -> bool:
        return bool(self._mutes) and (asset in self._mutes or _STREAM in self._mutes)

    # What is kept back ------------------------------------------------------------------------------------------

    def _reason(self, asset: str, time_s: float, known_since: int) -> Reason | None:
        """Why a raise is not told."""
        if self._is_muted(asset):
            return Reason.MUTED
        # Of earlier runs all are known; of this one, those that have been here for `window_s`.
        is_new = known_since > (self._met[0][1] if self._met else 0)
        reason = Reason.STORM_OF_NEW if is_new else Reason.STORM
        return reason if self._storms[reason].takes(asset, time_s) else None

    def _change(self, kept: Suppressed, event: AlertEvent) -> Reason | None:
        """An update of an alert that is kept back: if it is told, then as it is now."""
        worse = event.level == Level.ALARM and kept.level != event.level
        now = replace(event, event=kept.kind)
        storm = self._storms.get(kept.reason)
        if storm is not None and worse and not storm.takes(event.asset, read_iso_time(event.time)):
            self._forget(event.id)
            self._events.append(now)
            return kept.reason
        changed = replace(kept, level=event.level, event=encode(now))
        if kept.level == event.level:  # a reminder is not worth a write
            self._kept[event.id] = changed
        else:
            self._put(event.id, changed)
        return kept.reason

    def _keep(self, event: AlertEvent, kind: str, reason: Reason) -> Reason:
        kept = Suppressed(reason=reason, asset=event.asset, level=event.level, kind=kind, event=encode(event))
        self._put(event.id, kept)
        return reason

    def _put(self, name: str, kept: Suppressed) -> None:
        self._kept[name] = kept
        self._changed[suppressed_key(name)] = encode_record(kept)

    def _tell(self, name: str, kept: Suppressed) -> None:
        self._events.append(decode(kept.event, AlertEvent))
        self._forget(name)

    def _forget(self, name: str) -> None:
        del self._kept[name]
        self._changed[suppressed_key(name)] = b""

    def _still_open(self, reason: Reason) -> int:
        """Number of alerts that only a storm's event has told."""
        return sum([kept.reason is reason for kept in self._kept.values()])

    # The journal ------------------------------------------------------------------------------------------------

    def _note_storm(self, reason: Reason) -> None:
        record = self._storms[reason].record()
        self._changed[storm_key(reason)] = b"" if record is None else encode_record(record)

    def _note_mutes(self) -> None:
        self._changed[MUTES_RECORD] = encode_record(Mutes(self._mutes)) if self._mutes else b""

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all that is kept, to begin a journal with."""
        storms = {reason: storm.record() for reason, storm in self._storms.items()}
        return [
            *((suppressed_key(name), encode_record(kept)) for name, kept in self._kept.items()),
            *([(MUTES_RECORD, encode_record(Mutes(self._mutes)))] if self._mutes else []),
            *((storm_key(reason), encode_record(record)) for reason, record in storms.items() if record is not None),
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
        name, storm = id_of_suppressed(key), reason_of_storm(key)
        if name is not None:
            kept = decode_record(record, Suppressed)
            event = decode(kept.event, AlertEvent)
            ours = (name, self._agent, self._stream, kept.asset)
            if (event.id, event.agent, event.stream, event.asset) != ours or not can_be_asset(kept.asset):
                raise ValueError("its event is of another alert")
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

    # Health -----------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """For the health message: what is muted, a storm, and how many open alerts are not told, and of whom."""
        muted = sorted(self._mutes.keys() - {_STREAM})
        stream_s = self._mutes.get(_STREAM, math.nan)
        untold = sorted({kept.asset for kept in self._kept.values() if kept.kind != Transition.UPDATE})
        return {
            "muted": {
                "stream": None if math.isnan(stream_s) else iso_time(stream_s),
                "count": len(muted),
                "assets": {printable(asset): iso_time(self._mutes[asset]) for asset in muted[:_SHOWN]},
            },
            "storms": [told for storm in self._storms.values() if (told := storm.describe()) is not None],
            "untold": {"count": len(untold), "assets": [printable(asset) for asset in untold[:_SHOWN]]},
        }
