"""Recognises messages that were already scored, so that no message is scored twice.

A message can be repeated in two ways. After a lost connection or a crash, the broker sends messages again that we did
not acknowledge. And a sender repeats messages that the broker did not acknowledge to the sender. What brokers say of
the former differs: the flag DUP, the packet identifier and the session may each be another one. So:

    all its readings have a time      content alone decides: equal topic and payload are the same reading
    a reading has none                flag, identifier, session (sessions.py) and content must all be those of before,
                                      because an equal message may be a new reading of an unchanged value
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.messages.delivery import Delivery, fingerprints
from edge_agent.messages.topic import RETAINED
from edge_agent.sources.sessions import Sessions, contents_in, keys_in, pack_key

__all__ = ["Repeats"]

_KNOWN_DELIVERIES = 8192
"""Last messages by which a redelivery is recognised. A broker has at most its in-flight limit unacknowledged:
mosquitto 20 with MQTT 3.1.1, and with MQTT 5 the 1,000 that `mqtt.opening` asks for."""
_CONTENTS_KEPT = 4096
"""Last messages that are known by their content: at least this many, at most twice as many; after a start, what the
journal has."""


class Repeats:
    """Remembers the last messages that were scored.

    Their contents are in memory, and with the next commit in the journal, from which they come back after a start. For
    a reading without a time the journal itself is read, because a redelivery is flagged then, and rare.

    Args:
        scored: gives the results of `packed` for the last batches that are scored and not undone, oldest first.
        has_time: True if all readings of a message have a time. Asked only of messages whose content is known.
        sessions: at the broker; None for one that nothing is known of.
    """

    def __init__(
        self,
        scored: Callable[[], list[bytes]] = list,
        *,
        has_time: Callable[[Delivery], bool] = lambda _: True,
        sessions: Sessions | None = None,
    ) -> None:
        self._scored = scored
        self.sessions = sessions or Sessions()
        """Whose packet identifiers the keys have."""
        self._has_time = has_time
        # Two generations, because dropping a whole set leaves no holes in the memory of a long-running process.
        self._contents: set[int] = set()
        self._contents_before: set[int] | None = None
        """None until those of the process before were read."""
        self._timeless: set[int] = set()
        """Contents that were found to have a reading without a time: a value that does not change is parsed once."""

    def connected(self, address: str, session_present: bool) -> bool:
        """Note a connection to the broker, before messages of it are given; see `Sessions.connected`."""
        return self.sessions.connected(address, session_present, self._scored)

    def unscored(self, deliveries: list[Delivery], contents: list[int] | None = None) -> list[Delivery]:
        """The messages that were not scored before, each once. They count as scored from now on.

        Args:
            deliveries: in order of arrival.
            contents: their fingerprints; None if they are not known yet.
        """
        contents = fingerprints(deliveries) if contents is None else contents
        now, before = self._contents, self._contents_before
        if before is None:
            before = self._contents_before = {*contents_in(self.sessions.kept)}.union(*map(contents_in, self._scored()))
        if len(now) >= _CONTENTS_KEPT:
            before = self._contents_before = now
            now = self._contents = set()
        new = {*contents}
        if (
            len(new) == len(contents)
            and new.isdisjoint(now)
            and new.isdisjoint(before)
            and True not in [each.redelivered for each in deliveries]
        ):
            # As nearly always: nothing has to be looked at one by one.
            now |= new
            return deliveries
        fresh: list[Delivery] = []
        delivered: set[bytes] | None = None
        for delivery, content in zip(deliveries, contents, strict=True):
            if (content in now or content in before) and self._is_timed(delivery, content):
                continue
            if delivery.redelivered:
                delivered = self._delivered() if delivered is None else delivered
                if not delivered.isdisjoint(keys_in(self.packed([delivery], [content]))):
                    continue
            now.add(content)
            fresh.append(delivery)
        return fresh

    def _is_timed(self, delivery: Delivery, content: int) -> bool:
        """Whether all readings of a message have a time."""
        if content in self._timeless:
            return False
        if self._has_time(delivery):
            return True
        if len(self._timeless) >= _CONTENTS_KEPT:
            self._timeless.clear()
        self._timeless.add(content)
        return False

    def forget(self, deliveries: list[Delivery]) -> None:
        """Messages that could not be used do not count as scored: they may be sent again once the cause is mended."""
        self._contents.difference_update(fingerprints(deliveries))

    def packed(self, deliveries: list[Delivery], contents: list[int] | None = None) -> bytes:
        """The keys of a batch's messages, as bytes for the journal, by which they are recognised after a crash.

        Args:
            deliveries: in order of arrival.
            contents: their fingerprints, 0 for one that is not to be recognised; None if they are not known yet.
        """
        contents = fingerprints(deliveries) if contents is None else contents
        session = self.sessions.number
        # A message at QoS 0 does not come again, and a copy that is not scored need not be recognised.
        return b"".join(
            [
                pack_key(content, each.mid, session)
                for each, content in zip(deliveries, contents, strict=True)
                if each.mid and each.topic is not RETAINED
            ]
        )

    def _delivered(self) -> set[bytes]:
        """The keys of the last messages that were scored."""
        keys: set[bytes] = set()
        for blob in reversed(self._scored()):
            keys.update(keys_in(blob))
            if len(keys) >= _KNOWN_DELIVERIES:
                break
        # What was scored of this session before one at another address may be long ago.
        return keys.union(keys_in(self.sessions.kept))
