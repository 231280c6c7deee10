"""What the dashboard reads of messages beside alerts; docs/mqtt.md has their keys.

Scores and health are read as far as pages show them, and so that a newer agent's state or counter is no error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from edge_agent.messages.event import ChannelShare

__all__ = ["Health", "Mark", "Score", "StreamHealth", "Verdict"]

_NOTE_CHARACTERS = 2_000
_NAME_CHARACTERS = 80
"""Of the person who marks."""

Note = Annotated[str, msgspec.Meta(max_length=_NOTE_CHARACTERS)]
Person = Annotated[str, msgspec.Meta(max_length=_NAME_CHARACTERS)]


class Score(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was scored of one asset in an interval, on `edge/{agent}/scores/{stream}/{asset}`."""

    agent: str
    stream: str
    asset: str
    time: str
    """Of the last window, ISO 8601 in UTC."""
    score: float
    """The last one; higher is more anomalous."""
    highest: float
    """In the interval."""
    threshold: float | None = None
    """The alarm limit; None while there is none yet."""
    clear: float | None = None
    state: str = "normal"
    """`normal`, `alarm`, `learning`, `silent` or `stuck`."""
    muted: bool = False
    channels: list[ChannelShare] = []
    """Of the highest score, largest share first."""


class _Model(msgspec.Struct, frozen=True):
    name: str = ""
    version: str = ""


class _Silent(msgspec.Struct, frozen=True):
    count: int = 0


class _Node(msgspec.Struct, frozen=True):
    problem: str | None = None


class StreamHealth(msgspec.Struct, frozen=True):
    """One stream in a health message."""

    assets: int = 0
    readings: int = 0
    active_alerts: int = 0
    scored: int = 0
    rejected: dict[str, int] = {}
    provider: str = ""
    provider_reason: str = ""
    model: _Model = _Model()
    silent: _Silent = _Silent()


class Health(msgspec.Struct, frozen=True):
    """What the pages show of a health message, on `edge/{agent}/health`."""

    agent: str
    time: str = ""
    uptime_s: float = 0.0
    version: str = ""
    last_error: str | None = None
    queue_depth: int = 0
    journal_problem: str | None = None
    reload_problem: str | None = None
    dropped: int = 0
    memory_bytes: float = 0.0
    clock_synchronised: bool | None = None
    sparkplug_node: _Node = _Node()
    streams: dict[str, StreamHealth] = {}
    scores_left_out: int = 0
    """Assets whose scores were not published, because there were too many."""

    def problems(self) -> list[str]:
        """What a person should look at, in words; empty when all is well."""
        rejected = sum(count for stream in self.streams.values() for count in stream.rejected.values())
        silent = sum(stream.silent.count for stream in self.streams.values())
        found = [
            ("journal", self.journal_problem),
            ("reload", self.reload_problem),
            ("broker", self.last_error),
            ("sparkplug", self.sparkplug_node.problem),
            ("journal", self.dropped and f"{self.dropped} events were given up"),
            ("clock", self.clock_synchronised is False and "is not known to be right"),
            ("readings", rejected and f"{rejected} messages could not be read"),
            ("assets", silent and f"{silent} are silent"),
        ]
        return [f"{where}: {what}" for where, what in found if what]


class Verdict(StrEnum):
    """What a person says of an alert."""

    OPEN = ""
    """Nothing yet."""
    TRUE = "true"
    """Something was wrong."""
    FALSE = "false"
    """Nothing was wrong."""
    KNOWN = "known"
    """It has a cause that is no fault, such as work on the machine."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What people said of an alert, retained on `edge/{agent}/marks/{id}`."""

    agent: str
    id: str
    acknowledged: bool = False
    verdict: Verdict = Verdict.OPEN
    note: Note = ""
    by: Person = ""
    """Who marked last, as they call themselves."""
    time: str = ""
    """When, ISO 8601 in UTC. Of two marks of an alert, the newer one counts."""

    @property
    def key(self) -> str:
        """Which alert it is of."""
        return f"{self.agent}/{self.id}"

    def changed(self, changes: dict[str, Any]) -> Mark:
        """With some fields changed.

        Raises:
            ValueError: a value is none that a mark can have.
        """
        return msgspec.convert({**msgspec.to_builtins(self), **changes}, Mark)
