"""Recognises messages that were already scored, so that no message is scored twice.

A message can be repeated in two ways. After a lost connection or a crash, the broker sends messages again that we did
not acknowledge: flagged as redelivered, with the same packet identifier in the same session (sessions.py). And a sender
repeats messages that the broker did not acknowledge to the sender: these are new to the broker, so only equal content,
time included, shows them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED
from edge_agent.sources.sessions import Sessions, keys_in, pack_keys

__all__ = ["Repeats", "content_keys"]

_KNOWN_DELIVERIES = 8192
"""Last messages by which a redelivery is recognised. A broker has at most its in-flight limit unacknowledged:
mosquitto 20 with MQTT 3.1.1, and with MQTT 5 the 1,000 that `mqtt.opening` asks for."""
_SENT_KEPT = 2048
"""Last messages by which a sender's repetition is recognised: at least this many, at most twice as many."""


def content_keys(deliveries: Sequence[Delivery]) -> list[int]:
    """A number of 32 bits for each message, by its topic and payload; other messages may have the same."""
    crc32 = zlib.crc32
    return [crc32(each.payload, crc32(each.topic.raw)) for each in deliveries]


class Repeats:
    """Remembers the last messages that were scored.

    Any message may be a sender's repetition, so messages for this check are in memory. A redelivery by the broker is
    flagged and rare, so the journal is read for this check.

    Args:
        scored: gives the results of `packed` for the last batches that are scored and not undone, oldest first.
        has_time: True if all readings of a message have a time; without a time, an equal message is a new reading of an
            unchanged value.
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
        self._sent: set[int] = set()
        self._sent_before: set[int] = set()

    def connected(self, address: str, session_present: bool) -> None:
        """Note a connection to the broker, before messages of it are given; see `Sessions.connected`."""
        self.sessions.connected(address, session_present, self._scored)

    def unscored(self, deliveries: list[Delivery]) -> list[Delivery]:
        """The messages that were not scored before, each once. They count as scored from now on.

        Args:
            deliveries: in order of arrival.
        """
        fresh: list[Delivery] = []
        sent_before, sent_now = self._sent_before, self._sent
        delivered: set[int] | None = None
        for delivery in deliveries:
            if delivery.redelivered:
                delivered = self._delivered() if delivered is None else delivered
                if not delivered.isdisjoint(keys_in(self.packed([delivery]))):
                    continue
            # A payload without the key `time`, or SenML's `t` or `bt`, has no time. Only a known payload is decoded, to
            # see if each reading has a time.
            if b"time" in delivery.payload or b't"' in delivery.payload:
                sent = hash((delivery.topic.raw, delivery.payload))
                if (sent in sent_now or sent in sent_before) and self._has_time(delivery):
                    continue
                sent_now.add(sent)
            fresh.append(delivery)
        if len(sent_now) >= _SENT_KEPT:
            self._sent_before, self._sent = sent_now, set()
        return fresh

    def packed(self, deliveries: list[Delivery]) -> bytes:
        """The keys of a batch's messages, as bytes for the journal, by which they are recognised after a crash."""
        base, crc32 = self.sessions.base, zlib.crc32  # looked up once: this is made for every message
        keys = [
            base | each.mid << 32 | crc32(each.payload, crc32(each.topic.raw))
            for each in deliveries
            if each.mid and each.topic is not RETAINED  # a copy that is not scored need not be recognised
        ]
        return pack_keys(keys)

    def _delivered(self) -> set[int]:
        """The keys of the last messages that were scored."""
        keys: set[int] = set()
        for blob in reversed(self._scored()):
            keys.update(keys_in(blob))
            if len(keys) >= _KNOWN_DELIVERIES:
                break
        # What was scored of this session before one at another address may be long ago.
        return keys.union(keys_in(self.sessions.kept))
