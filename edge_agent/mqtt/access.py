"""What the broker's access rules refused. Outlives a connection: some brokers end it together with the refusal."""

from __future__ import annotations

import logging

__all__ = ["Access"]

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0


class Access:
    """Refused topics, and when to try them again."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Topics and topic filters, with the broker's words."""
        self.may_publish = True
        """Events may go out; after a refused one they pause, because the next would hardly fare better."""
        self._again_mono_s = 0.0

    def refuse(self, what: str, topic: str, answer: str, now_mono_s: float) -> None:
        """The broker refused a subscription or a message."""
        if topic not in self.refused:
            log.error("%s refused topic=%.80s answer=%s; check the broker's access rules", what, topic, answer)
        self.refused[topic] = answer.lower()
        self._again_mono_s = now_mono_s + _ASK_AGAIN_S

    def accept(self, topic: str) -> None:
        """The broker took it."""
        if self.refused and self.refused.pop(topic, None) is not None:
            log.info("accepted, what was refused before topic=%.80s", topic)

    def is_time_to_ask(self, now_mono_s: float) -> bool:
        """Whether what was refused should be tried again now; true once for each refusal."""
        if now_mono_s < self._again_mono_s or not (self.refused or not self.may_publish):
            return False
        self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        self.may_publish = True
        return True
