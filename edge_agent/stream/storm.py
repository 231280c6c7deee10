"""A storm: more assets of one stream raise alerts in a short time than a person can read about. It is told as one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_agent.messages.event import StormEvent, event_id
from edge_agent.messages.text import iso_time
from edge_agent.messages.values import is_epoch_time
from edge_agent.setting_types import Seconds, Whole

__all__ = ["Phase", "Storm", "StormSettings"]

_NAMED_AT_ONCE = 50


class StormSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many alerts of one stream are told one by one."""

    raises: Whole = 20
    """Alerts of so many assets within `window_s` are told one by one, and those of others by one event, `storm`; 0
    tells all."""
    window_s: Seconds = 60.0
    """Period in which assets are counted, by the times of their events."""


class Phase(StrEnum):
    """What an event tells of a storm."""

    BEGINS = "begins"
    GROWS = "grows"
    """There are more of its alerts, or names that were not told yet."""
    STAYS = "stays"
    """No more assets raise alerts, and many of its alerts are open."""
    ENDS = "ends"
    """Its last open alerts are told one by one now, or there are none."""


class StormRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A storm that has not ended; the journal keeps it."""

    id: str
    since_s: float
    """Time of the first raise that was not told by itself, epoch seconds."""
    last_s: float
    """Time of the last one."""
    count: int = 0
    """How many there were."""
    told: int = 0
    """`count` in the last event; 0 before the first."""
    stays: bool = False
    """True if the last event was `STAYS`."""
    recent: dict[str, float] = {}
    """Assets that count for the rate, with the time of their last raise."""


class Storm:
    """Counts the raises of one stream, and tells of a storm when it begins, while it grows, and when it ends.

    Args:
        settings: the stream's.
        agent: the agent's id.
        stream: the stream's name.
        of_new: it is one of assets that came with it.
    """

    def __init__(self, settings: StormSettings, *, agent: str, stream: str, of_new: bool) -> None:
        self._settings = settings
        self._agent = agent
        self._stream = stream
        self._of_new = of_new
        self._recent: dict[str, float] = {}
        """Time of the last raise of some assets, those that came last at the end. Of assets, because one that raises
        again and again is no storm, and must not make the alerts of others part of one."""
        self._now: StormRecord | None = None
        self._named: set[str] = set()
        self._grew = self._was_begun = False
        """A raise came, or the storm was told of, since the last look, which knows the time."""
        self._grew_mono_s = self._told_mono_s = 0.0

    @property
    def is_on(self) -> bool:
        """True from the first raise too many until the event that ends the storm."""
        return self._now is not None

    def takes(self, asset: str, time_s: float) -> bool:
        """Count a raise, and say whether it is one too many, to be told by the storm's event only.

        Args:
            asset: that is raised.
            time_s: of the event, epoch seconds.
        """
        if not self.is_full(asset, time_s):
            return False
        storm = self._now or StormRecord(id=self._name(asset, time_s), since_s=time_s, last_s=time_s)
        self._now = replace(storm, last_s=time_s, count=storm.count + 1, stays=False)
        self._grew = True
        return True

    def is_full(self, asset: str, time_s: float) -> bool:
        """Note that an asset is told of, and say whether that is one too many for its period; a storm does not grow.

        Args:
            asset: any.
            time_s: of the event, epoch seconds.
        """
        limit, window_s = self._settings.raises, self._settings.window_s
        if not limit:
            return False
        self._recent.pop(asset, None)
        near = sum([abs(time_s - other_s) <= window_s for other_s in self._recent.values()])
        self._recent[asset] = time_s
        # Twice as many: a few of a sender with another clock must not make room for the others.
        if len(self._recent) > 2 * limit:
            del self._recent[next(iter(self._recent))]
        return near >= limit

    def begun(self, open_assets: Iterable[str]) -> StormEvent | None:
        """The event of a storm that nobody was told of yet; None if there is none.

        Args:
            open_assets: those of its alerts that are open, the first to be named first.
        """
        storm = self._now
        if storm is None or storm.told:
            return None
        self._was_begun = True
        return self._tell(Phase.BEGINS, [*open_assets], storm.last_s)

    def look(self, now_mono_s: float, now_s: float, open_assets: list[str]) -> StormEvent | None:
        """Tell, once in `window_s`, that the storm has grown, and once each that it stays, or that it is over.

        Args:
            now_mono_s: monotonic.
            now_s: the time, epoch seconds.
            open_assets: those of its alerts that are open, the first to be named first.
        """
        storm, window_s = self._now, self._settings.window_s
        if storm is None or not storm.told:
            return None  # the beginning is told by `begun`
        if self._was_begun:
            self._was_begun, self._told_mono_s = False, now_mono_s
        if self._grew:
            self._grew, self._grew_mono_s = False, now_mono_s
        if now_mono_s - self._grew_mono_s >= window_s:
            if len(open_assets) <= self._settings.raises:
                event = self._tell(Phase.ENDS, open_assets, now_s)
                self._now = None
                self._named.clear()
                return event
            if not storm.stays:
                self._told_mono_s = now_mono_s
                return self._tell(Phase.STAYS, open_assets, now_s)
        is_news = storm.count > storm.told or not self._named.issuperset(open_assets)
        if not is_news or now_mono_s - self._told_mono_s < window_s:
            return None
        self._told_mono_s = now_mono_s
        return self._tell(Phase.STAYS if storm.stays else Phase.GROWS, open_assets, now_s)

    def record(self) -> StormRecord | None:
        """To be kept in the journal; None without a storm."""
        return None if self._now is None else replace(self._now, recent=dict(self._recent))

    def restore(self, record: StormRecord) -> None:
        """Go on with the storm of an earlier run.

        Raises:
            ValueError: no such storm can have been.
        """
        times = (record.since_s, record.last_s, *record.recent.values())
        if not all(map(is_epoch_time, times)):
            raise ValueError(f"one of {times} is no time")
        self._now, self._recent = record, dict(record.recent)
        self._grew = self._was_begun = True

    def describe(self) -> dict[str, Any] | None:
        """For the health message; None without a storm."""
        storm = self._now
        if storm is None:
            return None
        return {"since": iso_time(storm.since_s), "count": storm.count, "new_assets": self._of_new}

    def _tell(self, phase: Phase, open_assets: list[str], time_s: float) -> StormEvent:
        storm = self._now
        assert storm is not None
        self._now = replace(storm, told=storm.count, stays=phase is Phase.STAYS)
        # Each once: in a storm without an end, nobody stays without a name.
        named = [asset for asset in dict.fromkeys(open_assets) if asset not in self._named][:_NAMED_AT_ONCE]
        self._named.update(named)
        return StormEvent(
            id=storm.id,
            agent=self._agent,
            stream=self._stream,
            phase=phase,
            new_assets=self._of_new,
            count=storm.count,
            open=len(open_assets),
            assets=named,
            time=iso_time(time_s),
            since=iso_time(storm.since_s),
        )

    def _name(self, asset: str, since_s: float) -> str:
        return event_id(self._agent, self._stream, f"storm {self._of_new}", asset, repr(since_s))
