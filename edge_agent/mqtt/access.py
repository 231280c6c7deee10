"""What the broker's access rules refused.

It outlives a connection, because some brokers end it with the refusal, or in place of one: mosquitto 2.0.11, that of
Debian 12, ends it at once, and of the refusal nothing arrives where more was on its way. After such an end each topic's
first message goes alone, until the broker has taken it, and what ends a second connection so is taken for refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from itertools import islice

__all__ = ["Access"]

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
_ENDS = "the broker ends the connection"
_ASKED_AT_ONCE = 20
"""Each stream and asset has a topic of its own, and there may be thousands."""


class Access:
    """Refused topics, and when to try them again. The others go on."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Topics and topic filters, with the broker's words."""
        self.changes = 0
        """Grows when `may_publish` may say yes where it said no."""
        self._asked: set[str] = set()
        """Refused ones that may be tried once."""
        self._again_mono_s = 0.0
        self._is_careful = False
        self._proven: set[str] = set()
        """Taken by the broker on this connection."""
        self._suspects: set[str] = set()
        """The only ones on their way when a connection ended."""

    def may_go(self, topic: str, in_flight: Collection[str]) -> bool:
        """Whether a message may be sent on a topic beside those on these others that have no answer yet."""
        return not (self._is_careful and in_flight) or self._proven.issuperset((topic, *in_flight))

    def trust(self) -> None:
        """The connection has lasted: with thousands of topics, each by itself would take long."""
        self._is_careful = False

    def ended(self, unanswered: Collection[str]) -> bool:
        """The broker ended the connection, without a word on messages on these topics.

        Returns:
            Whether that may be a refusal, so that the next connection finds out more.
        """
        topics = {*unanswered}
        self._is_careful = bool(topics)
        self._proven.clear()
        if len(topics) == 1:
            (topic,) = topics
            if topic in self._suspects:
                self.refuse("message", topic, _ENDS, time.monotonic())
            else:
                self._suspects.add(topic)
        return bool(topics)

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be sent on a topic: it was not refused, or it is time to try again with one."""
        return topic not in self.refused or topic in self._asked

    def sent(self, topic: str) -> None:
        """A message was, so the broker is asked; its answer comes by `refuse` or `accept`."""
        self._asked.discard(topic)

    def refuse(self, what: str, topic: str, answer: str, now_mono_s: float) -> None:
        """The broker refused a subscription or a message."""
        if topic not in self.refused:
            log.error("%s refused topic=%.80s answer=%s; check the broker's access rules", what, topic, answer)
        if not self.refused:
            self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        self.refused[topic] = answer.lower()
        self._asked.discard(topic)

    def accept(self, topic: str) -> None:
        """The broker took it."""
        self._suspects.discard(topic)
        if self._is_careful:
            self._proven.add(topic)
        if self.refused and self.refused.pop(topic, None) is not None:
            log.info("accepted, what was refused before topic=%.80s", topic)
            # The rules were put right, so the others need not wait.
            self._asked.update(self.refused)
            self.changes += 1

    def is_time_to_ask(self, now_mono_s: float) -> bool:
        """Whether what was refused should be tried again now; true once in a while."""
        if not self.refused or now_mono_s < self._again_mono_s:
            return False
        self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        # Where each question may cost the connection, there is one.
        for topic in [*islice(self.refused, 1 if self._suspects else _ASKED_AT_ONCE)]:
            # To the end, so that each has its turn: what is asked may have no message to send any more.
            self.refused[topic] = self.refused.pop(topic)
            self._asked.add(topic)
        self.changes += 1
        return True
