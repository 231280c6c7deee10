"""From messages to the model and what is kept. Runs on one thread, which is the only one that changes them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.status import Status
from edge_agent.messages.text import decode
from edge_agent.outputs.evidence import EvidenceMessage
from edgetool.believed import Judge, Told, WatchedEvent
from edgetool.monitoring.alerts import Alert
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.heard import Health, Mark, Score
from edgetool.monitoring.times import is_ahead, seconds
from edgetool.subscription import Message

__all__ = ["PASSING", "TOPICS", "Intake", "Keeper", "NoKeeper"]

TOPICS = (
    "edge/+/alerts/+/+",
    "edge/+/status",
    "edge/+/health",
    "edge/+/scores/+/+",
    "edge/+/evidence/+/+",
    "edge/+/marks/+",
)
PASSING = ("edge/+/status", "edge/+/health", "edge/+/scores/+/+")
"""Those of them that tell of a moment: later, there is a newer one."""
_NAME_BYTES = 1_000
"""Of a whole topic; an agent's own names are shorter."""
_ID_CHARACTERS = 200
_LIMITS_BYTES = {"status": 16_384, "health": 524_288, "scores": 16_384, "marks": 16_384}
"""What is kept of such a message is kept in memory for each agent, asset or alert, and anybody may make these up."""
_HOUSEKEEPING_S = 60.0


class Keeper(Protocol):
    """What of it is kept; `History` keeps it in a file."""

    days: float

    def alert(self, agent: str, alert_id: str) -> Alert | None:
        """An alert that was kept."""

    def add_score(self, score: Score, at: float) -> None:
        """One point of an asset's curve, with its time, epoch seconds."""

    def add_alert(self, alert: Alert, event: dict[str, Any] | None) -> None:
        """An alert as it is now, and the event that made it so."""

    def add_evidence(self, part: EvidenceMessage) -> None:
        """Readings around a raise."""

    def add_mark(self, mark: Mark) -> None:
        """What people said of an alert."""

    def remove_mark(self, agent: str, alert_id: str) -> None:
        """What people said of an alert was taken back."""


class NoKeeper:
    """Keeps nothing."""

    days = 1.0

    def alert(self, agent: str, alert_id: str) -> Alert | None:
        """None."""

    def add_score(self, score: Score, at: float) -> None:
        """Nothing."""

    def add_alert(self, alert: Alert, event: dict[str, Any] | None) -> None:
        """Nothing."""

    def add_evidence(self, part: EvidenceMessage) -> None:
        """Nothing."""

    def add_mark(self, mark: Mark) -> None:
        """Nothing."""

    def remove_mark(self, agent: str, alert_id: str) -> None:
        """Nothing."""


class Intake:
    """Believes what comes as far as `edgetool watch` does, and counts what it does not believe.

    Args:
        fleet: the model.
        keeper: what of it is kept.
    """

    def __init__(self, fleet: Fleet, keeper: Keeper) -> None:
        self._fleet = fleet
        self._keeper = keeper
        self._judge = Judge()
        self._told = Told()
        self._tidied_mono_s = time.monotonic()
        self.messages: Counter[str] = Counter()
        """By kind, such as `scores`."""
        self.doubted: Counter[str] = Counter()
        """Messages that their agent cannot have published, or that are none of ours, by kind."""

    def take(self, message: Message) -> None:
        """Take one message, whatever is in it."""
        levels = message.topic.split("/")
        kind = levels[2] if len(levels) > 2 else ""
        self.messages[kind if kind in _READERS else "other"] += 1
        self._tidy()
        try:
            if kind not in _READERS or len(message.topic.encode()) > _NAME_BYTES:
                raise _DoubtError
            if len(message.payload) > _LIMITS_BYTES.get(kind, math.inf):
                raise _DoubtError
            _READERS[kind](self, levels, message)
        except (_DoubtError, ValueError):
            self.doubted[kind if kind in _READERS else "other"] += 1

    def _tidy(self) -> None:
        if time.monotonic() >= self._tidied_mono_s + _HOUSEKEEPING_S:
            self._tidied_mono_s = time.monotonic()
            self._fleet.forget_before(time.time() - self._keeper.days * 86_400)

    def _take_alert(self, _levels: list[str], message: Message) -> None:
        watched = self._judge.look_at(message)
        if watched is None or len(watched.event.id) > _ID_CHARACTERS:
            raise _DoubtError
        if not self._told.is_new(watched):
            return
        event = watched.event
        if not watched.is_ordinary:
            self._notice(watched, f"not believed ({', '.join(watched.doubts)}): {event.event}, {event.describe()}")
            raise _DoubtError
        if not isinstance(event, AlertEvent):
            self._notice(watched, event.describe())
            return
        if not self._fleet.has_alert(watched.agent, event.id):
            # It may come again or late, and then adds to what is kept, in place of it.
            kept = self._keeper.alert(watched.agent, event.id)
            if kept is not None:
                self._fleet.take_alert(kept)
        alert = self._fleet.take_event(watched, event)
        self._keeper.add_alert(alert, msgspec.to_builtins(event))

    def _notice(self, watched: WatchedEvent, text: str) -> None:
        notice: dict[str, Any] = {
            "agent": watched.agent,
            "stream": watched.stream,
            "asset": watched.asset,
            "event": watched.event.event,
            "time": watched.event.time,
            "text": text[:_NAME_BYTES],
            "doubts": [*watched.doubts],
        }
        self._fleet.take_notice(notice)

    def _take_status(self, levels: list[str], message: Message) -> None:
        if not message.payload:
            for alert in self._fleet.forget_agent(levels[1]):
                self._keeper.add_alert(alert, None)
            return
        self._fleet.take_status(levels[1], decode(message.payload, Status))

    def _take_health(self, levels: list[str], message: Message) -> None:
        if not message.payload:
            return
        health = decode(message.payload, Health)
        if health.agent != levels[1]:
            raise _DoubtError
        for alert in self._fleet.take_health(levels[1], health):
            self._keeper.add_alert(alert, None)

    def _take_score(self, levels: list[str], message: Message) -> None:
        score = decode(message.payload, Score)
        # No agent retains these, so their age would not be known.
        if message.is_retained or [score.agent, "scores", score.stream, score.asset] != levels[1:]:
            raise _DoubtError
        if not seconds(score.time):
            raise _DoubtError
        self._keeper.add_score(score, self._fleet.take_score(score))

    def _take_evidence(self, levels: list[str], message: Message) -> None:
        part = decode(message.payload, EvidenceMessage)
        if message.is_retained or [part.agent, "evidence", part.stream, part.asset] != levels[1:]:
            raise _DoubtError
        if not all(_is_reading(row, len(part.channels)) for row in part.rows):
            raise _DoubtError
        if not 1 <= part.part <= part.parts:
            raise _DoubtError
        self._keeper.add_evidence(part)

    def _take_mark(self, levels: list[str], message: Message) -> None:
        agent, alert_id = levels[1], levels[3]
        if not message.payload:
            self._fleet.forget_mark(f"{agent}/{alert_id}")
            self._keeper.remove_mark(agent, alert_id)
            return
        mark = decode(message.payload, Mark)
        # With a time that is far ahead, it would be the newest for ever.
        if [mark.agent, mark.id] != [agent, alert_id] or is_ahead(seconds(mark.time)):
            raise _DoubtError
        if self._fleet.take_mark(mark):
            self._keeper.add_mark(mark)


def _is_reading(row: list[str | float | None], channels: int) -> bool:
    """Whether a row of evidence has a time, and a number or nothing of each channel."""
    if len(row) != channels + 1 or not isinstance(row[0], str) or not seconds(row[0]):
        return False
    return not any(isinstance(value, str) for value in row[1:])


class _DoubtError(Exception):
    """Its agent cannot have published this."""


_READERS: dict[str, Callable[[Intake, list[str], Message], None]] = {
    "alerts": Intake._take_alert,  # noqa: SLF001 -- its own
    "status": Intake._take_status,  # noqa: SLF001
    "health": Intake._take_health,  # noqa: SLF001
    "scores": Intake._take_score,  # noqa: SLF001
    "evidence": Intake._take_evidence,  # noqa: SLF001
    "marks": Intake._take_mark,  # noqa: SLF001
}
"""By the third level of a topic."""
