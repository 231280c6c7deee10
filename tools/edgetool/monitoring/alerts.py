"""Alerts as the pages show them: one record for each, made of its events."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Collection

import msgspec

from edge_agent.messages.event import AlertEvent, ChannelShare
from edgetool.believed import Doubt, WatchedEvent
from edgetool.monitoring.heard import Mark
from edgetool.monitoring.times import seconds

__all__ = ["ENDED", "OPEN", "UNSEEN", "Alert", "Alerts"]

_OPEN_LIMIT = 2_000
_ENDED_LIMIT = 100
_CHANNELS = 8
_TEXT, _SAID = 120, 600
"""Characters of a name, and of a sentence: a sender chooses their length."""
_SPOKEN = ("silent", "stuck")
"""Levels of which a clear says in its own words what has ended."""
_UNANSWERED_S = 3_600.0
"""A mark that was published again and did not come back is not soon tried anew: the broker's rules may forbid it, and
mosquitto 2.0.11 may then end the connection, with which all of this would begin again."""
_NEAR_HEALTHS = 2
"""So many health messages in a row have to say that a stream has no alert, before one that we show is ended."""

OPEN, ENDED, UNSEEN = "open", "ended", "unseen"


class Alert(msgspec.Struct, kw_only=True):
    """One alert, from its raise on."""

    agent: str
    """Of the topic, as are the next two."""
    stream: str
    asset: str
    id: str
    level: str
    state: str = OPEN
    """`open`, `ended`, or `unseen`: the agent has no such alert any more, and its end was not heard."""
    score: float = 0.0
    """Of the last event."""
    worst: float = 0.0
    """The highest so far."""
    threshold: float = 0.0
    time: str = ""
    """Of the last event, ISO 8601 in UTC."""
    since: str = ""
    raised: float = 0.0
    """`since` in epoch seconds."""
    until: float = 0.0
    """`time` in epoch seconds."""
    said: str = ""
    """The last event, in words; once it has ended, the worst."""
    channels: list[ChannelShare] = []
    """Of the worst event that has any."""
    delayed: bool = False
    duration_s: float | None = None
    """Once it has ended, and its end was heard."""
    shared_id: bool = False
    """Another agent's alert has this id, too."""
    model: str = ""
    provider: str = ""
    mark: Mark | None = None

    @property
    def key(self) -> str:
        """Which alert it is: an id is an agent's own."""
        return f"{self.agent}/{self.id}"

    def follow(self, watched: WatchedEvent, event: AlertEvent) -> None:
        """Take one more event, which may come again or late."""
        is_end = event.event == "clear"
        self.level, self.threshold = event.level[:_TEXT], event.threshold
        self.score, self.time, self.since = event.score, event.time[:_TEXT], event.since[:_TEXT]
        self.raised, self.until = seconds(event.since), seconds(event.time)
        # Such an alert is open while the score may be low: its raises are no longer told one by one.
        often = "goes on and off, " if event.event == "flapping" else ""
        self.said, self.delayed = f"{often}{event.describe()}"[:_SAID], event.delayed
        self.shared_id = Doubt.SHARED_ID in watched.doubts
        self.model = f"{event.model.name} {event.model.version}"[: 2 * _TEXT]
        self.provider = event.provider[:_TEXT]
        worst = event.worst if isinstance(event.worst, float) else event.score
        if event.channels and (not self.channels or (worst >= self.worst and not is_end)):
            self.channels = [
                ChannelShare(each.name[:_TEXT], each.share, each.value) for each in event.channels[:_CHANNELS]
            ]
        self.worst = max(self.worst, worst)
        if is_end:
            self.state = ENDED
            if event.level not in _SPOKEN:
                # What it has come down to says nothing of what it was.
                at_worst = msgspec.structs.replace(event, score=self.worst)
                self.said = f"worst {at_worst.describe()}"[:_SAID]
            self.duration_s = event.duration_s if isinstance(event.duration_s, float) else None
        elif self.state == UNSEEN:
            self.state = OPEN


class Alerts:
    """Open alerts, and the last that ended. Bounded: the oldest are forgotten here, and are still in the history."""

    def __init__(self) -> None:
        self.open: OrderedDict[str, Alert] = OrderedDict()
        self.ended: OrderedDict[str, Alert] = OrderedDict()
        self.marks: OrderedDict[str, Mark] = OrderedDict()
        """By the key of the alert, which may not have come yet."""
        self.unsure_marks: set[str] = set()
        """Keys of those that the broker has not given to us, by the connection that we have."""
        self.unanswered_marks: dict[str, float] = {}
        """Keys of those that were published again and did not come back, with when, monotonic."""
        self.pushed_out: list[str] = []
        """Keys of open alerts that made room, since somebody has emptied this."""
        self._not_there: dict[str, int] = {}
        """By the key of an open alert, how many health messages in a row knew of none."""

    def take(self, watched: WatchedEvent, event: AlertEvent) -> Alert:
        """The alert of an event, as it is now."""
        key = f"{watched.agent}/{event.id}"
        alert = self.open.pop(key, None) or self.ended.pop(key, None)
        if alert is None:
            alert = Alert(
                agent=watched.agent, stream=watched.stream, asset=watched.asset, id=event.id, level=event.level
            )
            alert.mark = self.marks.get(key)
        if not (alert.state == ENDED and event.event != "clear"):
            alert.follow(watched, event)
        self._not_there.pop(key, None)
        self.put(alert)
        return alert

    def put(self, alert: Alert) -> None:
        """Keep an alert as it is."""
        kept, limit = (self.open, _OPEN_LIMIT) if alert.state == OPEN else (self.ended, _ENDED_LIMIT)
        kept[alert.key] = alert
        if len(kept) > limit:
            key, _ = kept.popitem(last=False)
            if kept is self.open:
                self.pushed_out.append(key)
                self._not_there.pop(key, None)

    def get(self, key: str) -> Alert | None:
        """An alert by its key."""
        return self.open.get(key) or self.ended.get(key)

    def open_by_stream(self, agent: str) -> Counter[str]:
        """How many open alerts each stream of an agent has, as far as they were heard."""
        return Counter(alert.stream for alert in self.open.values() if alert.agent == agent)

    def note(self, mark: Mark) -> bool:
        """Take what people said, unless something newer is known; tells whether that was done."""
        key = mark.key
        known = self.marks.get(key)
        if known is not None and seconds(mark.time) < seconds(known.time):
            self.unsure_marks.add(key)
            return False
        self._settle_mark(key)
        self.marks[key] = mark
        self.marks.move_to_end(key)
        if len(self.marks) > _OPEN_LIMIT:
            self._settle_mark(self.marks.popitem(last=False)[0])
        alert = self.get(key)
        if alert is not None:
            alert.mark = mark
        return True

    def forget_mark(self, key: str) -> Alert | None:
        """What people said was taken back at the broker; gives the alert, if it is here."""
        self.marks.pop(key, None)
        self._settle_mark(key)
        alert = self.get(key)
        if alert is not None:
            alert.mark = None
        return alert

    def lost_marks(self, present: Collection[str], most: int) -> list[Mark]:
        """Marks that the broker does not have, or has older ones of, each once.

        Args:
            present: agents whose marks are meant.
            most: so many at most.
        """
        now_mono_s = time.monotonic()
        found = [
            key
            for key in self.unsure_marks
            if self.marks[key].agent in present
            and now_mono_s >= self.unanswered_marks.get(key, -math.inf) + _UNANSWERED_S
        ][:most]
        self.unsure_marks.difference_update(found)
        self.unanswered_marks.update(dict.fromkeys(found, now_mono_s))
        return [self.marks[key] for key in found]

    def _settle_mark(self, key: str) -> None:
        self.unsure_marks.discard(key)
        self.unanswered_marks.pop(key, None)

    def end_all(self, agent: str) -> list[Alert]:
        """End the alerts of an agent that is gone for good."""
        gone = [self.open.pop(key) for key, alert in list(self.open.items()) if alert.agent == agent]
        for alert in gone:
            alert.state = UNSEEN
            self._not_there.pop(alert.key, None)
            self.put(alert)
        return gone

    def hear(self, agent: str, stream: str, active: int) -> list[Alert]:
        """End the alerts that an agent does not have any more, as where we were away when they ended.

        Args:
            agent: of a health message that was made while none of its events waited.
            stream: of it.
            active: how many alerts it has.
        """
        mine = [alert for alert in self.open.values() if alert.agent == agent and alert.stream == stream]
        gone = []
        for alert in mine:
            count = 0 if active else self._not_there.get(alert.key, 0) + 1
            self._not_there[alert.key] = count
            if count >= _NEAR_HEALTHS:
                del self._not_there[alert.key]
                gone.append(self.open.pop(alert.key))
        for alert in gone:
            alert.state = UNSEEN
            self.put(alert)
        return gone
