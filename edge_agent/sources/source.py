"""What every source gives and takes back."""

from __future__ import annotations

from typing import Protocol

from edge_agent.messages.delivery import Delivery

__all__ = ["Source"]


class Source(Protocol):
    """Gives what has arrived, and forgets it only when told."""

    may_repeat: bool
    """Whether a message may come twice."""

    @property
    def ended(self) -> bool:
        """Whether everything has been taken, and nothing will ever come."""

    def readers(self) -> list[int]:
        """What the loop has to wait on for it, beside the brokers' sockets."""

    def has_backlog(self) -> bool:
        """Whether `take` would give something without waiting for more to arrive."""

    def take(self, limit: int) -> list[Delivery]:
        """What has arrived by now, oldest first, at most `limit`; never waits."""

    def leave(self) -> list[Delivery]:
        """At a planned stop: what has been read already, and will not come again. Nothing is taken afterwards."""

    def ack(self, deliveries: list[Delivery]) -> None:
        """These are safe: the sender may forget them. Called once for each, in order of arrival."""
