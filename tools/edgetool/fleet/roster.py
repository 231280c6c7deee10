"""The fleet as a table: the dashboard's model of agents, and beside it what they tell of updates."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from edge_agent.messages.text import decode
from edge_agent.messages.update import State
from edgetool.fleet.told import Update
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.heard import Health
from edgetool.monitoring.intake import Intake, NoKeeper
from edgetool.monitoring.shown import Agent
from edgetool.monitoring.times import seconds
from edgetool.subscription import Message

__all__ = ["NO_HEALTH", "AgentRow", "Roster", "StreamRow"]

_MOST_AGENTS = 100_000
_LIMIT_BYTES = 524_288
NO_HEALTH = "health: none has come"
"""The problem of an agent that is online, which tells it at its start and the broker keeps."""
_NOT_HEARD_S = 60.0
"""An agent that is online and has not told its health for so long does not do its work."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream of an agent."""

    stream: str
    bundle: str = ""
    """Name of the model that runs; empty before health told it."""
    version: str = ""
    provider: str = ""
    readings_per_minute: float | None = None
    """Since the last health message but one; of an agent that was heard once, on the average since it started."""
    open_alerts: int = 0
    update: Update | None = None
    """None where the agent takes no updates, or has not told."""

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        update = self.update
        told = None
        if update is not None:
            keys = ("state", "since", "reason", "progress", "sequence")
            told = {key: getattr(update, key) for key in keys}
            told |= {"bundle": None if update.bundle is None else str(update.bundle)}
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "update"}
        return {**plain, "update": told}


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent."""

    agent: str
    state: str
    """`online`, `offline` or `unknown`."""
    reason: str
    version: str
    last_seen: str
    """Of its last word, ISO 8601 in UTC by its clock; empty if none is known."""
    queue: int
    """Events that wait for the broker."""
    problems: tuple[str, ...]
    streams: tuple[StreamRow, ...]

    @property
    def open_alerts(self) -> int:
        """Of all streams."""
        return sum(stream.open_alerts for stream in self.streams)

    @property
    def bad_updates(self) -> int:
        """Streams whose last update did not come to its end."""
        bad = {State.ROLLED_BACK, State.REFUSED, State.WAITING, State.KEPT}
        return sum(stream.update is not None and stream.update.state in bad for stream in self.streams)

    @property
    def need(self) -> tuple[bool, bool, int, int, bool, str]:
        """A key by which those that need a person come first: not online, problems, bad updates, alerts."""
        return (
            self.state == "online",
            not self.problems,
            -self.bad_updates,
            -self.open_alerts,
            not any(stream.update is not None and stream.update.is_under_way for stream in self.streams),
            self.agent,
        )

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("streams", "problems")}
        return {
            **plain,
            "problems": [*self.problems],
            "open_alerts": self.open_alerts,
            "streams": [stream.describe() for stream in self.streams],
        }


@dataclass(slots=True)
class _Pace:
    """Readings of one stream at two moments."""

    at_s: float = 0.0
    count: int = 0
    per_minute: float | None = None

    def take(self, at_s: float, count: int, uptime_s: float) -> None:
        if self.at_s and at_s > self.at_s and count >= self.count:
            self.per_minute = (count - self.count) / (at_s - self.at_s) * 60
        elif uptime_s > 0 and at_s != self.at_s:
            self.per_minute = count / uptime_s * 60
        self.at_s, self.count = at_s, count


@dataclass(slots=True)
class Roster:
    """Takes messages, and gives rows."""

    updates: dict[tuple[str, str], Update] = field(default_factory=dict)
    """By agent and stream."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """Streams of each agent, as its status has them."""
    _fleet: Fleet = field(default_factory=lambda: Fleet(most_agents=_MOST_AGENTS))
    _intake: Intake = field(init=False)
    _paces: dict[tuple[str, str], _Pace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._intake = Intake(self._fleet, NoKeeper())

    def connected_anew(self) -> None:
        """What comes first now happened at a time that nobody here knows."""
        self._fleet.connected_anew()

    def take(self, message: Message) -> None:
        """Take one message, whatever is in it."""
        levels = message.topic.split("/")
        kind = levels[2] if len(levels) > 2 else ""
        if kind == "updates" and len(levels) == 4:
            self._take_update(levels[1], levels[3], message.payload)
            return
        self._intake.take(message)
        try:
            if kind == "health" and 0 < len(message.payload) <= _LIMIT_BYTES:
                self._take_pace(levels[1], decode(message.payload, Health))
        except ValueError:
            return

    def agents(self) -> dict[str, Agent]:
        """Those that are known, by name."""
        with self._fleet.lock:
            self._fleet.changes({})  # nobody is told what alone has changed, and it would be kept for ever
            return {agent.agent: agent for agent in self._fleet.whole({}).agents}

    def rows(self) -> list[AgentRow]:
        """All agents, first those that need a person."""
        return sorted((self._row(agent) for agent in self.agents().values()), key=lambda row: row.need)

    def _take_update(self, agent: str, stream: str, payload: bytes) -> None:
        if not payload:
            self.updates.pop((agent, stream), None)
            return
        try:
            update = decode(payload, Update) if len(payload) <= _LIMIT_BYTES else None
        except ValueError:
            return
        # Whoever may write there in another's name is kept out by the broker's rules; the rest is a mistake.
        if update is not None and (update.agent, update.stream) == (agent, stream):
            self.updates[agent, stream] = update

    def _take_pace(self, agent: str, health: Health) -> None:
        at_s = seconds(health.time)
        for name, stream in health.streams.items():
            self._paces.setdefault((agent, name), _Pace()).take(at_s, stream.readings, health.uptime_s)

    def _row(self, agent: Agent) -> AgentRow:
        names = [
            *agent.streams,
            *(name for who, name in self.updates if who == agent.agent and name not in agent.streams),
        ]
        problems = [*agent.problems]
        silent_s = time.time() - seconds(agent.health_time) if agent.health_time else 0.0
        if agent.state == "online" and silent_s > _NOT_HEARD_S:
            problems.append(f"health: last told {silent_s:.0f} s ago")
        elif agent.state == "online" and not agent.health_time:
            problems.append(NO_HEALTH)
        return AgentRow(
            agent=agent.agent,
            state=agent.state,
            reason=agent.reason,
            version=agent.version,
            last_seen=max(agent.health_time, agent.since),
            queue=agent.queue_depth,
            problems=tuple(problems),
            streams=tuple(self._stream(agent, name) for name in names),
        )

    def _stream(self, agent: Agent, name: str) -> StreamRow:
        update = self.updates.get((agent.agent, name))
        found = agent.streams.get(name)
        if found is None:
            return StreamRow(stream=name, update=update)
        pace = self._paces.get((agent.agent, name))
        return StreamRow(
            stream=name,
            bundle=found.model.name,
            version=found.model.version,
            provider=found.provider,
            readings_per_minute=None if pace is None else pace.per_minute,
            open_alerts=found.active_alerts,
            update=update,
        )
