"""What the broker's access rules refused.

It outlives a connection, because some brokers end it with the refusal, or in place of one: mosquitto 2.0.11, that of
Debian 12, ends it at once, and of the refusal nothing arrives where more was on its way. After such an end we are
careful: each topic's first message goes alone, until the broker has taken it, and what ends a second connection so is
taken for refused.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable
from itertools import islice

__all__ = ["Access"]

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
_CAREFUL_S = (10.0, 60.0)
"""So long a connection has to last for care to end, and ends it in any case: an answer may never come."""
_AT_ONCE_S = 2.0
"""The end of a connection that comes so soon after a refusal comes of it."""
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
        self._refused_again: set[str] = set()
        """Since it was last time to ask."""
        self.is_careful = False
        """Each topic's first message goes alone."""
        self._careful_from_mono_s = 0.0
        self._proven: set[str] = set()
        """Taken by the broker on this connection."""
        self._suspects: set[str] = set()
        """The only ones on their way when a connection ended, or refused right before."""
        self._last_refused = ("", -math.inf)
        """Of messages, by an answer on this connection, and when."""

    def came_up(self, now_mono_s: float) -> None:
        """There is a connection."""
        self._careful_from_mono_s = now_mono_s

    def may_go(self, topic: str, unanswered: Collection[str], untold: Collection[str] = ()) -> bool:
        """Whether a message may be sent on a topic beside those on others that may still end the connection.

        Args:
            topic: its own.
            unanswered: of messages at QoS 1.
            untold: of messages at QoS 0 a short while ago.
        """
        if not self.is_careful:
            # What has ended a connection is asked alone, whenever there is something to send on it.
            return topic not in self._suspects or not unanswered
        if not {*untold}.difference(self._proven) <= {topic}:
            return False
        return not unanswered or self._proven.issuperset((topic, *unanswered))

    def trust(self, now_mono_s: float, unanswered: Collection[str], untold: Collection[str] = ()) -> None:
        """Care may end: the connection lasts, and with thousands of topics, each by itself would take long."""
        if not self.is_careful:
            return
        lasted_s, (least_s, most_s) = now_mono_s - self._careful_from_mono_s, _CAREFUL_S
        if lasted_s > most_s or (lasted_s > least_s and self._proven.issuperset({*unanswered, *untold})):
            self.is_careful = False
            self._proven.clear()

    def ended(self, unanswered: Collection[str], untold: Collection[str] = ()) -> bool:
        """The broker ended the connection, without a word on messages on these topics; see `may_go`.

        Returns:
            Whether that may be a refusal, so that the next connection finds out more.
        """
        topics = {*unanswered} or {*untold}
        (refused, refused_mono_s), self._last_refused = self._last_refused, ("", -math.inf)
        is_told = time.monotonic() - refused_mono_s < _AT_ONCE_S
        if is_told:
            self._suspects.add(refused)
        elif not topics:
            return False
        if is_told or len(topics) > 1:
            # Nothing was learnt of these.
            self._asked |= topics.intersection(self.refused)
        else:
            (topic,) = topics
            if topic in self._suspects:
                self._note_refused("message", topic, _ENDS, time.monotonic())
            else:
                self._suspects.add(topic)
        self._be_careful()
        return is_told or bool(unanswered) or len(topics) == 1

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be sent on a topic: it was not refused, or it is time to try again with one."""
        return topic not in self.refused or topic in self._asked

    def sent(self, topic: str) -> None:
        """A message was, so the broker is asked; its answer comes by `refuse` or `accept`."""
        if topic in self._asked:
            self._asked.discard(topic)
            if topic in self._suspects and not self.is_careful:
                self._be_careful()

    def refuse(self, what: str, topic: str, answer: str, now_mono_s: float) -> None:
        """The broker refused a subscription or a message."""
        self._note_refused(what, topic, answer, now_mono_s)
        if what == "message":
            self._last_refused = topic, now_mono_s

    def _note_refused(self, what: str, topic: str, answer: str, now_mono_s: float) -> None:
        if topic in self.refused:
            self._refused_again.add(topic)
        else:
            log.error("%s refused topic=%.80s answer=%s; check the broker's access rules", what, topic, answer)
        if not self.refused:
            self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        self.refused[topic] = answer.lower()
        self._asked.discard(topic)

    def accept(self, topic: str) -> None:
        """The broker took it."""
        self._suspects.discard(topic)
        if self.is_careful:
            self._proven.add(topic)
        if self.refused and self.refused.pop(topic, None) is not None:
            log.info("accepted, what was refused before topic=%.80s", topic)
            # The rules were put right, perhaps all of them, so the others need not wait.
            others = (other for other in self.refused if other not in self._refused_again)
            self._ask([*(islice(others, _ASKED_AT_ONCE) if self._ends_connections() else others)])

    def forget(self, topics: Iterable[str]) -> None:
        """There is nothing to send on these any more, so nobody would ever learn that they are accepted."""
        for topic in topics:
            self.refused.pop(topic, None)
            self._asked.discard(topic)
            self._suspects.discard(topic)
            self._refused_again.discard(topic)

    def is_time_to_ask(self, now_mono_s: float) -> bool:
        """Whether what was refused should be tried again now; true once in a while."""
        if not self.refused or now_mono_s < self._again_mono_s:
            return False
        self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        self._refused_again.clear()
        # Where each question may cost the connection, there is one.
        topics = [*islice(self.refused, 1 if self._ends_connections() else _ASKED_AT_ONCE)]
        for topic in topics:
            # To the end, so that each has its turn.
            self.refused[topic] = self.refused.pop(topic)
        self._ask(topics)
        return True

    def _ends_connections(self) -> bool:
        """Whether the broker has ended one in place of a refusal."""
        return not self._suspects.isdisjoint(self.refused)

    def _ask(self, topics: Iterable[str]) -> None:
        self._asked.update(topics)
        self.changes += 1

    def _be_careful(self) -> None:
        self.is_careful = True
        self._careful_from_mono_s = time.monotonic()
        self._proven.clear()
