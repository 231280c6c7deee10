"""A storm: more assets of one stream raise alerts in a short time than a person can read about. It is told as one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_agent.messages.event import StormEvent, event_id
from edge_agent.messages.text import iso_time, printable
from edge_agent.messages.values import is_epoch_time
from edge_agent.setting_types import Seconds, Whole

__all__ = ["Storm", "StormSettings"]

_SHOWN = 20
"""Assets that are named."""


class StormSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many alerts of one stream are told one by one."""

    raises: Whole = 20
    """Alerts of so many assets within `window_s` are told one by one, and those of others by one event, `storm`; 0
    tells all."""
    window_s: Seconds = 60.0
    """Period in which assets are counted, by the times of their events."""


class StormRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A storm that has not ended; the journal keeps it."""

    id: str
    since_s: float
    """Time of the first raise that was not told by itself, epoch seconds."""
    last_s: float
    """Time of the last one."""
    count: int = 0
    """How many there were."""
    first: tuple[str, ...] = ()
    """Assets of the first of them."""
    told: int = 0
    """`count` in the last event; 0 before the first."""


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
        self._recent: OrderedDict[str, float] = OrderedDict()
        """Time of the last raise of some assets, those that came last at the end. Of assets, because one that raises
        again and again is no storm, and must not make the alerts of others part of one."""
        self._now: StormRecord | None = None
        self._grew = False
        self._grew_mono_s = self._told_mono_s = 0.0

    @property
    def is_on(self) -> bool:
        """True from the first raise too many until none has come for `window_s`."""
        return self._now is not None

    def takes(self, asset: str, time_s: float) -> bool:
        """Count a raise, and say whether it is one too many, to be told by the storm's event only.

        Args:
            asset: that is raised.
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
            self._recent.popitem(last=False)
        if near < limit:
            return False
        storm = self._now or StormRecord(id=self._name(asset, time_s), since_s=time_s, last_s=time_s)
        first = (*storm.first, asset) if len(storm.first) < _SHOWN and asset not in storm.first else storm.first
        self._now = replace(storm, last_s=time_s, count=storm.count + 1, first=first)
        self._grew = True
        return True

    def begun(self, still_open: int) -> StormEvent | None:
        """The event of a storm that nobody was told of yet; None if there is none.

        Args:
            still_open: how many of its alerts are open.
        """
        return self._tell("begins", still_open) if self._now is not None and not self._now.told else None

    def look(self, now_mono_s: float, still_open: int) -> StormEvent | None:
        """Tell, once in `window_s`, that the storm has grown, or that it is over; to be called now and then.

        Args:
            now_mono_s: monotonic.
            still_open: how many of its alerts are open.
        """
        storm, window_s = self._now, self._settings.window_s
        if storm is None:
            return None
        if self._grew:
            self._grew, self._grew_mono_s = False, now_mono_s
        if now_mono_s - self._grew_mono_s >= window_s:
            event = self._tell("ends", still_open)
            self._now = None
            return event
        if storm.told in (0, storm.count) or now_mono_s - self._told_mono_s < window_s:
            return None  # the beginning is told by `begun`
        self._told_mono_s = now_mono_s
        return self._tell("grows", still_open)

    def record(self) -> StormRecord | None:
        """To be kept in the journal; None without a storm."""
        return self._now

    def restore(self, record: StormRecord) -> None:
        """Go on with the storm of an earlier run.

        Raises:
            ValueError: no such storm can have been.
        """
        if not (is_epoch_time(record.since_s) and is_epoch_time(record.last_s)):
            raise ValueError(f"{record.since_s:g} or {record.last_s:g} is no time")
        self._now, self._grew = record, True

    def describe(self) -> dict[str, Any] | None:
        """For the health message; None without a storm."""
        storm = self._now
        if storm is None:
            return None
        return {
            "since": iso_time(storm.since_s),
            "count": storm.count,
            "new_assets": self._of_new,
            "assets": [printable(asset) for asset in storm.first],
        }

    def _tell(self, phase: str, still_open: int) -> StormEvent:
        storm = self._now
        assert storm is not None
        self._now = replace(storm, told=storm.count)
        return StormEvent(
            id=storm.id,
            agent=self._agent,
            stream=self._stream,
            phase=phase,
            new_assets=self._of_new,
            count=storm.count,
            open=still_open,
            assets=[*storm.first],
            time=iso_time(storm.last_s),
            since=iso_time(storm.since_s),
        )

    def _name(self, asset: str, since_s: float) -> str:
        return event_id(self._agent, self._stream, f"storm {self._of_new}", asset, repr(since_s))
