"""The interface of a source of readings."""

from __future__ import annotations

from typing import Protocol

from edge_agent.messages.delivery import Delivery

__all__ = ["Source"]


class Source(Protocol):
    """Gives the messages that have arrived, and lets their sender forget them only after `ack`.

    All methods are called on the loop's thread.
    """

    may_repeat: bool
    """True if a message may come twice."""

    @property
    def ended(self) -> bool:
        """True if all messages have been taken and no more will come."""

    def readers(self) -> list[int]:
        """File descriptors that the loop must wait on for this source, beside the brokers' sockets."""

    def has_backlog(self) -> bool:
        """True if `take` would give messages that have arrived already."""

    def take(self, limit: int) -> list[Delivery]:
        """Take the messages that have arrived, oldest first, at most `limit`; never waits.

        Raises:
            DataError: the source cannot be read any more.
        """

    def leave(self) -> list[Delivery]:
        """At a planned stop: take all messages that have been read already and will not come again.

        Nothing is taken afterwards.
        """

    def ack(self, deliveries: list[Delivery]) -> None:
        """Note that these messages are safe, so that their sender may forget them.

        Called once for each message, in order of arrival.
        """
