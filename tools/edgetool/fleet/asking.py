"""One wish for many agents, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.messages.update import State
from edgetool.fleet.deployment import SILENT, Seen
from edgetool.fleet.publishing import Retained
from edgetool.fleet.told import Update
from edgetool.fleet.wishes import Sent, Wisher, next_sequence, told_sequence, wish_topic

__all__ = ["NO_ANSWER", "Asking"]

NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an agent was asked for last."""

    sequence: int
    taken_back: str | None
    """SHA-256 of the bundle that is taken back before it has settled; None where none is."""


class Asking:
    """Sends one wish to many agents, and finds their answers.

    Args:
        kind: of the wish.
        wisher: signs it.
        retained: sends it.
        kept: by agent, the wish of ours that was at the broker before.
    """

    def __init__(self, kind: str, wisher: Wisher, retained: Retained, kept: Mapping[str, Sent]) -> None:
        self._kind = kind
        self._wisher = wisher
        self._retained = retained
        self._kept = kept
        self._asked: dict[str, _Asked] = {}

    def ask(self, agent: str, seen: Seen, document: Mapping[str, Any]) -> None:
        """Send it to one agent; again, in place of what was sent before."""
        sent, before = self._kept.get(agent), self._asked.get(agent)
        sequence = next_sequence(self._kind, seen.update, sent)
        if before is not None:
            sequence = max(sequence, before.sequence + 1)
        taken_back = None
        if document.get("cancel"):
            update = seen.update
            part = update.bundle if update is not None and update.is_under_way else sent and sent.bundle
            taken_back = part.sha256 if part else None
        self._asked[agent] = _Asked(sequence, taken_back)
        topic = wish_topic(agent, self._wisher.stream, self._kind)
        self._retained.put(topic, self._wisher.make(agent, self._kind, sequence, document))

    def ask_those_that_settled(self, present: Mapping[str, Seen]) -> list[str]:
        """Let agents go back that had settled before they heard that the bundle is taken back; gives who they are."""
        late = [agent for agent, seen in present.items() if self._has_settled(self._asked[agent], seen.update)]
        for agent in late:
            self.ask(agent, present[agent], {"rollback": True})
        return late

    @staticmethod
    def _has_settled(asked: _Asked, update: Update | None) -> bool:
        if update is None or update.bundle is None or told_sequence("bundle", update) < asked.sequence:
            return False
        return update.state == State.SETTLED and update.bundle.sha256 == asked.taken_back

    def answer(self, agent: str, seen: Seen) -> tuple[str, str]:
        """State and reason that an agent tells of the wish; `NO_ANSWER` as long as it tells nothing of it."""
        asked, update = self._asked[agent], seen.update
        if update is None and seen.online:
            return NO_ANSWER, "it tells nothing of updates"
        if update is None or told_sequence(self._kind, update) < asked.sequence:
            return NO_ANSWER, f"it is online and says nothing of it; {SILENT}" if seen.online else "it is away"
        answer = {"settings": update.settings, "recommission": update.recommission}.get(self._kind)
        if answer is not None:
            return answer.state, answer.reason
        if update.is_under_way:
            return NO_ANSWER, update.in_words()
        if asked.taken_back is not None and (update.bundle is None or update.bundle.sha256 != asked.taken_back):
            return State.GIVEN_UP, "it had not heard of the bundle"
        return update.state, update.reason
