"""Which topics the broker's access rules refuse, and when a message may go on a topic.

Each topic has one state (topic_states.py), and the connection has a mode (careful_mode.py). Both outlive a connection,
because a broker may end the connection with a refusal, or in place of one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from edge_agent.mqtt.careful_mode import CareEvent, CareMode
from edge_agent.mqtt.topic_states import (
    ASKABLE,
    SUSPECTED_STATES,
    TRANSITIONS,
    TopicAction,
    TopicEvent,
    TopicState,
)

__all__ = ["TopicAccess"]

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
_AT_ONCE_S = 2.0
"""A connection that ends within this time behind a refusal ended because of the refusal."""
_ENDS = "the broker ends the connection"
_ASKED_AT_ONCE = 20
"""Each stream and asset has a topic of its own, and there may be thousands."""


class TopicAccess:
    """Knows the refused topics and when to try them again; the other topics go on.

    Args:
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, TopicState] = {}
        """Of topics and topic filters that are not OPEN."""
        self.refused: dict[str, str] = {}
        """Topics and topic filters that are refused, with the broker's words, in the order in which they are asked."""
        self.changes = 0
        """Grows when `may_publish` may say yes where it said no."""
        self._mute_waits = False
        """`may_ask_mute` has said no."""
        self._care = CareMode()
        self._again_mono_s = 0.0
        """When refused topics are asked again."""
        self._last_refused = ("", -math.inf)
        """The topic of the last message that an answer refused on this connection, and when that was."""

    @property
    def is_careful(self) -> bool:
        """Whether each topic's first message goes alone."""
        return self._care.is_on

    def state(self, topic: str) -> TopicState:
        """What is known of a topic."""
        return self._states.get(topic, TopicState.OPEN)

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be sent on a topic: it was not refused, or it is time to ask again with one message."""
        if not self._states:
            return True
        return self.state(topic) in ASKABLE and not (self.is_careful and self.is_mute(topic))

    def is_mute(self, topic: str) -> bool:
        """Whether the broker does not answer messages on a topic: they go one by one, and not in careful mode."""
        return self._states.get(topic) is TopicState.MUTE

    def may_go(self, topic: str, unanswered: Collection[str], untold: Collection[str] = ()) -> bool:
        """Whether a message may be sent now, beside earlier messages that may still end the connection.

        Args:
            topic: of the message.
            unanswered: topics of messages at QoS 1 that the broker has not answered.
            untold: topics of messages that were sent a short while ago, at QoS 0 or on a MUTE topic.
        """
        if not self.is_careful:
            # What has ended a connection is asked alone, whenever there is something to send on it.
            if not self._states or self.state(topic) not in SUSPECTED_STATES:
                return True
            return not self._to_blame(unanswered) and not any(map(self.is_mute, untold))
        if any(other != topic and not self._is_proven(other) for other in untold):
            return False
        unanswered = self._to_blame(unanswered)
        return not unanswered or (self._is_proven(topic) and self._are_proven(unanswered))

    def may_ask_mute(self, unanswered: Collection[str], untold: Collection[str]) -> bool:
        """Whether a message on a MUTE topic may go: nothing else may end the connection at that moment, also no other
        MUTE topic. The arguments are those of `may_go`.
        """
        may = not untold and not self._to_blame(unanswered)
        self._mute_waits |= not may
        return may

    def let_mute_go(self, unanswered: Collection[str], untold: Collection[str]) -> None:
        """Tell in `changes` when `may_ask_mute` says yes where it said no; to be called each second."""
        if self._mute_waits and self.may_ask_mute(unanswered, untold):
            self._mute_waits = False
            self.changes += 1

    def came_up(self, now_mono_s: float) -> None:
        """The broker has accepted a connection."""
        self._care.note(CareEvent.CAME_UP, now_mono_s)

    def trust(self, now_mono_s: float, unanswered: Collection[str], untold: Collection[str] = ()) -> None:
        """End careful mode if the connection has lasted: with thousands of topics, each by itself would take long."""
        if not self.is_careful:
            return
        is_answered = self._are_proven(self._to_blame(unanswered)) and self._are_proven(untold)
        if self._care.may_end(now_mono_s, is_answered=is_answered):
            self._turn_care(CareEvent.LASTED, now_mono_s)

    def ended(self, unanswered: Collection[str], untold: Collection[str] = ()) -> bool:
        """Note that the broker ended the connection; the arguments are those of `may_go`.

        Returns:
            Whether the end may be a refusal that the next connection finds out more about.
        """
        now_mono_s = self._clock()
        topics = {*self._to_blame(unanswered)} or {*untold}
        (refused, refused_mono_s), self._last_refused = self._last_refused, ("", -math.inf)
        is_told = now_mono_s - refused_mono_s < _AT_ONCE_S
        if is_told:
            self._move(refused, TopicEvent.ENDED_LIKELY)
        elif not topics:
            return False
        if is_told or len(topics) > 1:
            # Nothing was learnt of these. But a MUTE topic goes behind nothing at QoS 0, so that came later.
            likely = {topic for topic in topics if not self.is_mute(topic)}
            is_likely = not is_told and len(likely) < len(topics)
            for topic in topics:
                self._move(topic, TopicEvent.ENDED_LIKELY if is_likely and topic in likely else TopicEvent.TURN)
        else:
            (topic,) = topics
            if self.state(topic) in SUSPECTED_STATES:
                self._note_words(topic, _ENDS, now_mono_s)
            self._refuse("message", topic, f"{_ENDS}; check the broker's access rules", TopicEvent.ENDED_ALONE)
        self._turn_care(CareEvent.ENDED, now_mono_s)
        return is_told or bool(unanswered) or len(topics) == 1

    def sent(self, topic: str) -> None:
        """Note that a message was handed over; the broker's answer comes by `refuse` or `accept`."""
        if self._states and self._move(topic, TopicEvent.SENT) is TopicAction.BE_CAREFUL and not self.is_careful:
            self._turn_care(CareEvent.ASKS_SUSPECT, self._clock())

    def refuse(
        self, what: str, topic: str, answer: str, now_mono_s: float, *, advice: str = "check the broker's access rules"
    ) -> None:
        """Note that the broker refused a topic by an answer.

        Args:
            what: "subscription" or "message".
            topic: of the message, or the topic filter.
            answer: the broker's words.
            now_mono_s: now.
            advice: what a person should do; empty where the words say it.
        """
        self._note_words(topic, answer.lower() if advice else answer, now_mono_s)
        self._refuse(what, topic, f"{answer}; {advice}" if advice else answer, TopicEvent.DENIED)
        if what == "message":
            self._last_refused = topic, now_mono_s

    def accept(self, topic: str) -> None:
        """Note that the broker has taken a message on a topic, or a subscription."""
        if not self._states and not self.is_careful:
            return
        event = TopicEvent.PROVED if self.is_careful else TopicEvent.TAKEN
        if self._move(topic, event) is TopicAction.ASK_OTHERS:
            del self.refused[topic]
            log.info("accepted, what was refused before topic=%.80s", topic)
            # The rules were put right, perhaps for all topics, so the others need not wait.
            again = (TopicState.AGAIN, TopicState.ENDS_AGAIN)
            others = (other for other in self.refused if self._states[other] not in again)
            self._ask(
                [*(islice(others, _ASKED_AT_ONCE) if self._ends_connections() else others)], TopicEvent.OTHER_TAKEN
            )

    def note_silence(self, topic: str) -> None:
        """Note that the broker has not answered a message on a topic within its time."""
        self._move(topic, TopicEvent.SILENCE)
        if self.is_mute(topic):
            self.refused.pop(topic, None)

    def forget(self, topics: Iterable[str]) -> None:
        """Forget topics on which there is nothing to send any more: nobody would ever learn that they are accepted."""
        for topic in topics:
            self._move(topic, TopicEvent.FORGOTTEN)
            self.refused.pop(topic, None)

    def is_time_to_ask(self, now_mono_s: float) -> bool:
        """Whether refused topics should be asked again now; true at most once a minute, for some of the topics."""
        if not self.refused or now_mono_s < self._again_mono_s:
            return False
        self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        for topic in self.refused:
            self._move(topic, TopicEvent.NEW_MINUTE)
        # Where each question may cost the connection, there is one.
        topics = [*islice(self.refused, 1 if self._ends_connections() else _ASKED_AT_ONCE)]
        for topic in topics:
            # To the end, so that each topic has its turn.
            self.refused[topic] = self.refused.pop(topic)
        self._ask(topics, TopicEvent.TURN)
        return True

    def _move(self, topic: str, event: TopicEvent) -> TopicAction | None:
        """Do what the table says; the action is left to the caller."""
        before = self.state(topic)
        after, action = TRANSITIONS.get((before, event), (before, None))
        if after is TopicState.OPEN:
            self._states.pop(topic, None)
        else:
            self._states[topic] = after
        return action

    def _refuse(self, what: str, topic: str, answer: str, event: TopicEvent) -> None:
        if self._move(topic, event) is TopicAction.TELL_REFUSED:
            log.error("%s refused topic=%.80s answer=%s", what, topic, answer)

    def _note_words(self, topic: str, answer: str, now_mono_s: float) -> None:
        if not self.refused:
            self._again_mono_s = now_mono_s + _ASK_AGAIN_S
        self.refused[topic] = answer

    def _ask(self, topics: Iterable[str], event: TopicEvent) -> None:
        for topic in topics:
            self._move(topic, event)
        self.changes += 1

    def _turn_care(self, event: CareEvent, now_mono_s: float) -> None:
        self._care.note(event, now_mono_s)
        for topic in [topic for topic, state in self._states.items() if state is TopicState.PROVEN]:
            self._move(topic, TopicEvent.CARE_TURNED)
        # MUTE topics have waited for the end of careful mode.
        self.changes += 1

    def _ends_connections(self) -> bool:
        """Whether the broker ends connections in place of refusing a topic that is refused now."""
        ends = (TopicState.ENDS, TopicState.ENDS_RETRY, TopicState.ENDS_AGAIN)
        return any(state in ends for state in self._states.values())

    def _to_blame(self, unanswered: Collection[str]) -> Collection[str]:
        """Those of the topics for which the broker may still end the connection."""
        return [topic for topic in unanswered if not self.is_mute(topic)] if self._states else unanswered

    def _is_proven(self, topic: str) -> bool:
        return self._states.get(topic) is TopicState.PROVEN

    def _are_proven(self, topics: Collection[str]) -> bool:
        return all(map(self._is_proven, topics))
