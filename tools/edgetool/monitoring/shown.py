"""What is shown of a fleet: records of agents and assets, and what a page is told of them."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.messages.event import ChannelShare
from edgetool.monitoring.alerts import Alert
from edgetool.monitoring.heard import StreamHealth

__all__ = ["SPARK_POINTS", "Agent", "Asset", "Changes"]

SPARK_POINTS = 60
"""Scores in a small picture of an asset."""


class Agent(msgspec.Struct, kw_only=True):
    """One agent."""

    agent: str
    state: str = "unknown"
    """`online`, `offline`, or `unknown` before its status came."""
    reason: str = ""
    since: str = ""
    """When it came to that state, ISO 8601 in UTC; empty where nobody here can know: it was lost while we were away."""
    version: str = ""
    health_time: str = ""
    """When it made its last health message."""
    queue_depth: int = 0
    memory_bytes: float = 0.0
    scores_left_out: int = 0
    problems: list[str] = []
    streams: dict[str, StreamHealth] = {}
    unheard: dict[str, int] = {}
    """By stream, how many alerts it had at its last health message of which no event had told."""
    skew_s: float = 0.0
    """By how much its clock is ahead of ours, seconds, as far as that is known; little is none."""
    session: str = ""

    def not_heard(self, stream: str, heard: int) -> int:
        """How many alerts it has in a stream of which no event tells.

        Args:
            stream: one of `streams`.
            heard: how many are open by the events that came.
        """
        return max(0, min(self.unheard.get(stream, 0), self.streams[stream].active_alerts - heard))


class Asset(msgspec.Struct, kw_only=True):
    """One asset of one stream, and the last that was scored of it."""

    agent: str
    stream: str
    asset: str
    time: str = ""
    """Of the last score, ISO 8601 in UTC; empty where only alerts were heard of it."""
    at: float = 0.0
    """The same in epoch seconds."""
    heard: float = 0.0
    """When something came of it, epoch seconds by our clock."""
    scored: float = 0.0
    """When the last score came, by our clock."""
    pause_s: float = 0.0
    """How far its scores have been apart lately, as they came, seconds; 0 before the second."""
    score: float | None = None
    highest: float | None = None
    threshold: float | None = None
    clear: float | None = None
    state: str = ""
    muted: bool = False
    channels: list[ChannelShare] = []
    spark: list[float] = []
    """Highest scores: in a snapshot the last ones, in a change those that are new."""

    @property
    def key(self) -> str:
        """Which asset it is; no part of a topic has a slash."""
        return f"{self.agent}/{self.stream}/{self.asset}"


class Changes(msgspec.Struct, kw_only=True):
    """What a page is told: all that there is, or what has changed."""

    whole: bool
    """Whether this takes the place of all that was told before."""
    now: float
    """Epoch seconds by our clock."""
    agents: list[Agent] = []
    assets: list[Asset] = []
    alerts: list[Alert] = []
    gone: list[str] = []
    """Keys of assets, and names of agents, that are not shown any more."""
    gone_alerts: list[str] = []
    """Keys of open alerts that made room for newer ones."""
    notices: list[dict[str, Any]] = []
    """What happened beside alerts, newest last."""
    figures: dict[str, Any] = {}

    def of_asset(self, key: str) -> Changes:
        """Only what concerns one asset."""
        return Changes(
            whole=self.whole,
            now=self.now,
            agents=[each for each in self.agents if key.startswith(f"{each.agent}/")],
            assets=[each for each in self.assets if each.key == key],
            alerts=[each for each in self.alerts if f"{each.agent}/{each.stream}/{each.asset}" == key],
            figures=self.figures,
        )
