"""What the broker's access rules refused. Outlives a connection: some brokers end it together with the refusal."""

from __future__ import annotations

import logging
from itertools import islice

__all__ = ["Access"]

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
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
        for topic in [*islice(self.refused, _ASKED_AT_ONCE)]:
            # To the end, so that each has its turn: what is asked may have no message to send any more.
            self.refused[topic] = self.refused.pop(topic)
            self._asked.add(topic)
        self.changes += 1
        return True
