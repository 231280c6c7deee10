"""What agents are asked for: signed, for one agent and stream, with a sequence that grows, and a time to expire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.errors import TrustError
from edge_agent.messages.text import iso_time
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.trust import Keys, read_wish
from edge_agent.update.wishes import BundlePart
from edgetool.fleet.told import Update
from edgetool.signing import PrivateKey, sign_wish

__all__ = ["Sent", "Wisher", "next_sequence", "wish_topic"]


class Sent(msgspec.Struct, frozen=True):
    """What is read of a wish of ours that the broker has kept."""

    sequence: int
    deployment: str = ""
    """Hash of the bundle that it was sent for; empty for others."""
    cancel: bool = False
    rollback: bool = False
    bundle: BundlePart | None = None
    expires: str = ""
    """ISO 8601."""
    open_alerts: int = 0
    """Of the agent's stream, as it was sent."""

    @property
    def takes_back(self) -> bool:
        """Whether it undoes what was sent before."""
        return self.cancel or (self.rollback and self.bundle is None)


@dataclass(frozen=True, slots=True)
class Wisher:
    """Makes wishes of one operator for one stream."""

    stream: str
    key: PrivateKey
    expires_s: float
    """Epoch seconds."""

    def make(self, agent: str, kind: str, sequence: int, what: Mapping[str, Any]) -> bytes:
        """A signed message.

        Args:
            agent: whom it is for.
            kind: `bundle`, `settings` or `recommission`.
            sequence: of `next_sequence`.
            what: the keys of its kind.
        """
        head = {"agent": agent, "stream": self.stream, "kind": kind, "sequence": sequence}
        times = {"issued": iso_time(time.time()), "expires": iso_time(self.expires_s)}
        return sign_wish({**head, **times, **what}, self.key)

    def read(self, message: bytes) -> Sent | None:
        """A wish that this key has signed; None of any other."""
        try:
            return msgspec.json.decode(read_wish(message, Keys([self.key.public])), type=Sent)
        except (TrustError, ValueError):
            return None


def wish_topic(agent: str, stream: str, kind: str) -> str:
    """Where it is published, retained."""
    return AgentTopics(agent).wish(stream, kind)


def next_sequence(kind: str, update: Update | None, sent: Sent | None = None) -> int:
    """Above all that the agent has obeyed, and all that was sent: milliseconds since 1970, or one more.

    Args:
        kind: of the wish.
        update: what the agent tells; None if nothing.
        sent: the wish that is at the broker; None if none of ours is.
    """
    told = -1
    if update is not None:
        answer = {"settings": update.settings, "recommission": update.recommission}.get(kind)
        told = (update.sequence if kind == "bundle" else answer.sequence if answer else None) or -1
    return max(int(time.time() * 1000), told + 1, (-1 if sent is None else sent.sequence) + 1)
