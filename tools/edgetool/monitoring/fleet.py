"""The fleet as it is now: agents, assets with their last scores, alerts. In memory, and bounded."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from typing import Any

import msgspec

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.status import Status
from edge_agent.messages.text import iso_time
from edgetool.believed import WatchedEvent
from edgetool.monitoring.alerts import OPEN, Alert, Alerts
from edgetool.monitoring.heard import Health, Mark, Score
from edgetool.monitoring.shown import SPARK_POINTS, Agent, Asset, Changes
from edgetool.monitoring.times import seconds

__all__ = ["Fleet"]

_AGENTS = 1_000
_ASSETS = 10_000
_STREAMS = 50
"""Of one agent."""
_NOTICES = 30
_WILL = "connection lost"
_SKEW_S = 120.0
"""Of a clock; less may be the way of a message."""
_PAUSE_KEPT = 0.9
"""How much of the longest pause between two scores counts at the next one, so that an outage is soon forgotten."""


class Fleet:
    """The model. One thread changes it, others look at it: each method takes the lock.

    Args:
        most_agents: of more, those known longest are forgotten.
    """

    def __init__(self, most_agents: int = _AGENTS) -> None:
        self._most_agents = most_agents
        self._lock = threading.Lock()
        self._agents: OrderedDict[str, Agent] = OrderedDict()
        self._assets: OrderedDict[str, Asset] = OrderedDict()
        """The one that was heard last is last."""
        self._sparks: dict[str, deque[float]] = {}
        self._alerts = Alerts()
        self._present: set[str] = set()
        """Agents whose status came by the connection that we have."""
        self._well_timed: set[str] = set()
        """Agents whose health came by that connection, so that their next one is as old as it took to come."""
        self._notices: deque[dict[str, Any]] = deque(maxlen=_NOTICES)
        self._new_points: dict[str, list[float]] = {}
        """Of assets that have changed."""
        self._changed_agents: set[str] = set()
        self._changed_alerts: set[str] = set()
        self._new_notices: list[dict[str, Any]] = []
        self._gone: list[str] = []

    def take_status(self, agent: str, status: Status) -> None:
        """An agent has come or gone."""
        with self._lock:
            known = self._agent(agent)
            is_first = agent not in self._present
            self._present.add(agent)
            # The last will of an old connection may come behind the birth of a new one.
            if status.state == "offline" and known.state == "online" and status.session != known.session:
                return
            if known.state != status.state:
                # A last will was written when its connection was made, so its time is not the one of the loss.
                lost = "" if is_first else iso_time(time.time())
                known.since = lost if status.reason == _WILL else status.time
            known.state, known.reason, known.version = status.state, status.reason, status.version
            known.session = status.session

    def take_health(self, agent: str, health: Health) -> list[Alert]:
        """How an agent is; gives the alerts that have ended without our hearing it."""
        with self._lock:
            known = self._agent(agent)
            # The retained one comes again with each connection of ours; a flag does not tell it from a new one.
            is_new, known.health_time = known.health_time != health.time, health.time
            if is_new:
                known.skew_s = self._skew_s(agent, seconds(health.time))
            known.version = health.version
            known.queue_depth, known.memory_bytes = health.queue_depth, health.memory_bytes
            known.scores_left_out = health.scores_left_out
            known.problems = health.problems()
            known.streams = dict(list(health.streams.items())[:_STREAMS])
            gone: list[Alert] = []
            if is_new and not health.queue_depth:
                for name, stream in known.streams.items():
                    gone += self._alerts.hear(agent, name, stream.active_alerts)
            if is_new:
                heard = self._alerts.open_by_stream(agent)
                more = {name: stream.active_alerts - heard[name] for name, stream in known.streams.items()}
                known.unheard = {name: count for name, count in more.items() if count > 0}
            self._changed_alerts.update(alert.key for alert in gone)
            return gone

    def take_score(self, score: Score) -> float:
        """What was scored of an asset; gives the time of the score, epoch seconds."""
        with self._lock:
            asset = self._asset(score.agent, score.stream, score.asset)
            asset.time, asset.at = score.time, seconds(score.time)
            if asset.scored:
                asset.pause_s = max(asset.heard - asset.scored, _PAUSE_KEPT * asset.pause_s)
            asset.scored = asset.heard
            asset.score, asset.highest = score.score, score.highest
            asset.threshold, asset.clear = score.threshold, score.clear
            asset.state, asset.muted, asset.channels = score.state, score.muted, score.channels
            self._sparks[asset.key].append(score.highest)
            self._new_points[asset.key].append(score.highest)
            return asset.at

    def take_alert(self, alert: Alert) -> None:
        """Show an alert as the history has it."""
        with self._lock:
            if alert.state == OPEN:
                self._asset(alert.agent, alert.stream, alert.asset)
            alert.mark = self._alerts.marks.get(alert.key, alert.mark)
            self._alerts.put(alert)
            self._changed_alerts.add(alert.key)

    def take_event(self, watched: WatchedEvent, event: AlertEvent) -> Alert:
        """One event of an alert; gives the alert as it is now."""
        with self._lock:
            self._asset(watched.agent, watched.stream, watched.asset)
            alert = self._alerts.take(watched, event)
            self._changed_alerts.add(alert.key)
            return alert

    def take_mark(self, mark: Mark) -> bool:
        """What people said of an alert; False where something newer is known."""
        with self._lock:
            is_newest = self._alerts.note(mark)
            if is_newest and self._alerts.get(mark.key) is not None:
                self._changed_alerts.add(mark.key)
            return is_newest

    def connected_anew(self) -> None:
        """What comes first of each agent was kept by the broker, for nobody knows how long; the marks that it still has
        are about to come.
        """
        with self._lock:
            self._present.clear()
            self._well_timed.clear()
            self._alerts.unsure_marks = {*self._alerts.marks}

    def lost_marks(self, most: int) -> list[Mark]:
        """Marks that the broker does not have, or has older ones of, each told once.

        Of agents that the broker knows: what was retained of one that was retired must not come back.
        """
        with self._lock:
            return self._alerts.lost_marks(self._present, most)

    def forget_mark(self, key: str) -> None:
        """What people said of an alert was taken back at the broker."""
        with self._lock:
            if self._alerts.forget_mark(key) is not None:
                self._changed_alerts.add(key)

    def take_notice(self, notice: dict[str, Any]) -> None:
        """Something happened that is no alert."""
        with self._lock:
            self._notices.append(notice)
            self._new_notices = [*self._new_notices, notice][-_NOTICES:]

    def forget_agent(self, agent: str) -> list[Alert]:
        """An agent was retired: its retained messages were taken from the broker. Gives its alerts, which end so."""
        with self._lock:
            if self._agents.pop(agent, None) is None:
                return []
            self._changed_agents.discard(agent)
            self._present.discard(agent)
            self._well_timed.discard(agent)
            self._gone.append(agent)
            for key in [key for key, asset in self._assets.items() if asset.agent == agent]:
                self._drop_asset(key)
            gone = self._alerts.end_all(agent)
            self._changed_alerts.update(alert.key for alert in gone)
            return gone

    def forget_before(self, heard: float) -> None:
        """Forget assets of which nothing came since a time, epoch seconds by our clock."""
        with self._lock:
            while self._assets:
                key, asset = next(iter(self._assets.items()))
                if asset.heard >= heard:
                    return
                self._drop_asset(key)

    def restore(self, asset: Asset, points: list[float]) -> None:
        """Show an asset as the history has it."""
        with self._lock:
            if asset.key not in self._assets:
                kept = self._asset(asset.agent, asset.stream, asset.asset)
                self._assets[asset.key] = asset
                asset.heard = asset.heard or kept.heard
                self._sparks[asset.key].extend(points)

    def mark_of(self, agent: str, alert_id: str) -> Mark:
        """What people have said of an alert so far."""
        with self._lock:
            return self._alerts.marks.get(f"{agent}/{alert_id}") or Mark(agent=agent, id=alert_id)

    def has_alert(self, agent: str, alert_id: str) -> bool:
        """Whether an alert is here; those that ended some time ago are not."""
        with self._lock:
            return self._alerts.get(f"{agent}/{alert_id}") is not None

    def has_mark(self, agent: str, alert_id: str) -> bool:
        """Whether somebody has said something of an alert, which may not have been heard here."""
        with self._lock:
            return f"{agent}/{alert_id}" in self._alerts.marks

    def counts(self) -> dict[str, int]:
        """How many there are of what."""
        with self._lock:
            online = sum(agent.state == "online" for agent in self._agents.values())
            return {
                "agents_online": online,
                "agents_other": len(self._agents) - online,
                "assets": len(self._assets),
                "alerts_open": len(self._alerts.open),
            }

    def changes(self, figures: dict[str, Any]) -> Changes:
        """What has changed since this was asked the last time.

        The records are those of the model, so they are to be written out while the lock is held.
        """
        assets = [
            msgspec.structs.replace(self._assets[key], spark=points[-SPARK_POINTS:])
            for key, points in self._new_points.items()
        ]
        alerts = [found for key in self._changed_alerts if (found := self._alerts.get(key)) is not None]
        changes = Changes(
            whole=False,
            now=time.time(),
            agents=[self._agents[name] for name in self._changed_agents],
            assets=assets,
            alerts=alerts,
            gone=self._gone,
            gone_alerts=self._alerts.pushed_out,
            notices=self._new_notices,
            figures=figures,
        )
        self._new_points, self._gone, self._new_notices = {}, [], []
        self._alerts.pushed_out = []
        self._changed_agents, self._changed_alerts = set(), set()
        return changes

    def whole(self, figures: dict[str, Any]) -> Changes:
        """All that there is."""
        assets = [msgspec.structs.replace(asset, spark=list(self._sparks[key])) for key, asset in self._assets.items()]
        return Changes(
            whole=True,
            now=time.time(),
            agents=list(self._agents.values()),
            assets=assets,
            alerts=[*self._alerts.ended.values(), *self._alerts.open.values()],
            notices=list(self._notices),
            figures=figures,
        )

    @property
    def lock(self) -> threading.Lock:
        """To be held around `changes` and `whole`, so that both are of one moment, until they are written out."""
        return self._lock

    def _agent(self, name: str) -> Agent:
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = Agent(agent=name)
            if len(self._agents) > self._most_agents:
                oldest = next(iter(self._agents))
                del self._agents[oldest]
                self._changed_agents.discard(oldest)
                self._present.discard(oldest)
                self._well_timed.discard(oldest)
                self._gone.append(oldest)
        self._changed_agents.add(name)
        return agent

    def _skew_s(self, agent: str, made: float) -> float:
        """How far ahead an agent's clock is by a new health message, which is 0 for what may be a delay."""
        found = made - time.time() if made else 0.0
        # The first one by a connection may have been kept by the broker for as long as the agent is away.
        is_old = agent not in self._well_timed and found < 0
        self._well_timed.add(agent)
        return 0.0 if is_old or abs(found) < _SKEW_S else found

    def _asset(self, agent: str, stream: str, name: str) -> Asset:
        key = f"{agent}/{stream}/{name}"
        asset = self._assets.get(key)
        if asset is None:
            asset = self._assets[key] = Asset(agent=agent, stream=stream, asset=name)
            self._sparks[key] = deque(maxlen=SPARK_POINTS)
            if len(self._assets) > _ASSETS:
                self._drop_asset(next(iter(self._assets)))
        asset.heard = time.time()
        self._assets.move_to_end(key)
        self._new_points.setdefault(key, [])
        return asset

    def _drop_asset(self, key: str) -> None:
        del self._assets[key], self._sparks[key]
        self._new_points.pop(key, None)
        self._gone.append(key)
