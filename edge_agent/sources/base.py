"""What every source gives and takes back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Delivery", "Source"]


class Delivery(NamedTuple):
    """One message as it arrived. A tuple, because one is made for every message."""

    topic: str
    payload: bytes
    mid: int
    """The broker's packet identifier; 0 for QoS 0, which nobody acknowledges."""
    redelivered: bool
    """The broker says it may have sent this before."""


class Source(Protocol):
    """Gives what has arrived, and forgets it only when told."""

    @property
    def ended(self) -> bool:
        """Whether everything has been taken, and nothing will ever come."""

    def readers(self) -> list[int]:
        """What the loop has to wait on for it, beside the brokers' sockets."""

    def has_backlog(self) -> bool:
        """Whether `take` would give something without waiting for more to arrive."""

    def take(self, limit: int) -> list[Delivery]:
        """What has arrived by now, oldest first, at most `limit`; never waits."""

    def ack(self, deliveries: list[Delivery]) -> None:
        """These are safe: the sender may forget them. Called once for each, in order of arrival."""
