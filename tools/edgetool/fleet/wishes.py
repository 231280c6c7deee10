"""What agents are asked for: signed, for one agent and stream, with a sequence that grows, and a time to expire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.errors import TrustError, UsageError
from edge_agent.messages.text import iso_time
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.messages.values import read_iso_time
from edge_agent.trust import WISH_LIMIT_BYTES, Keys, read_wish
from edge_agent.update.wishes import BundlePart, is_beyond_clocks, read_wish_text
from edgetool.fleet.told import Update
from edgetool.signing import PrivateKey, sign_wish

__all__ = ["Sent", "Wisher", "is_made_up", "next_sequence", "told_sequence", "wish_topic"]


class Sent(msgspec.Struct, frozen=True):
    """What is read of a wish of ours that the broker has kept."""

    sequence: int
    agent: str = ""
    stream: str = ""
    kind: str = ""
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

    @property
    def holds(self) -> bool:
        """Whether an agent that has not heard it would still obey it."""
        return not self.expires or read_iso_time(self.expires) > time.time()


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

        Raises:
            UsageError: no agent would take it.
        """
        head = {"agent": agent, "stream": self.stream, "kind": kind, "sequence": sequence}
        times = {"issued": iso_time(time.time()), "expires": iso_time(self.expires_s)}
        wish = {**head, **times, **what}
        if is_beyond_clocks(sequence, time.time()):
            raise UsageError(f"no agent would take such a wish: its sequence {sequence} is of no clock")
        try:
            read_wish_text(msgspec.json.encode(wish))
        except ValueError as exc:
            # An agent counts it among what anybody may send, and says nothing.
            raise UsageError(f"no agent would take such a wish: {exc}") from exc
        message = sign_wish(wish, self.key)
        if len(message) > WISH_LIMIT_BYTES:
            what_it_has = f"{len(message)} bytes, at most {WISH_LIMIT_BYTES} are read"
            raise UsageError(f"no agent would take such a wish: it has {what_it_has}")
        return message

    def read(self, topic: str, message: bytes) -> Sent | None:
        """A wish that this key has signed, where it was signed for; None of any other.

        Args:
            topic: that it came on. Whoever may only write to the broker can put one for another agent there.
            message: of anybody.
        """
        try:
            sent = msgspec.json.decode(read_wish(message, Keys([self.key.public])), type=Sent)
        except (TrustError, ValueError):
            return None
        return sent if wish_topic(sent.agent, sent.stream, sent.kind) == topic else None


def wish_topic(agent: str, stream: str, kind: str) -> str:
    """Where it is published, retained."""
    return AgentTopics(agent).wish(stream, kind)


def next_sequence(kind: str, update: Update | None, sent: Sent | None = None) -> int:
    """Above all that the agent can have obeyed, by its word or ours: milliseconds since 1970, or one more.

    Args:
        kind: of the wish.
        update: what the agent tells; None if nothing.
        sent: the wish that is at the broker; None if none of ours is.
    """
    before = [told_sequence(kind, update), -1 if sent is None else sent.sequence]
    return max(int(time.time() * 1000), *(each + 1 for each in before if not is_made_up(each)))


def told_sequence(kind: str, update: Update | None) -> int:
    """The last sequence of a kind that an agent says it has obeyed; -1 if none."""
    if update is None:
        return -1
    answer = {"settings": update.settings, "recommission": update.recommission}.get(kind)
    told = update.sequence if kind == "bundle" else answer.sequence if answer else None
    return -1 if told is None else told


def is_made_up(told: int) -> bool:
    """Whether an agent cannot have obeyed a sequence that it tells: answers are not signed."""
    return is_beyond_clocks(told, time.time())
