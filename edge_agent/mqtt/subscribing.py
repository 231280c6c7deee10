"""The subscriptions of one connection: which can be asked for, and what the broker answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import topic_matches_sub
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.mqtt.granted import Granted
from edge_agent.mqtt.message import Subscription
from edge_agent.mqtt.opening import PahoClient
from edge_agent.mqtt.topic_access import TopicAccess

__all__ = ["Subscribing"]

log = logging.getLogger(__name__)

_ANSWER_LIMIT_S = 30.0
"""A broker that is busy with its start takes seconds. And it sends what had waited first, up to 1,000 messages, which
on a slow device take longer: so this is no reason to give the connection up."""
_WILDCARDS_REFUSED, _SHARED_REFUSED = 0xA2, 0x9E


class Subscribing:
    """Asks for the readings' topics, and tells what is refused.

    Args:
        client: paho's.
        subscriptions: what is asked for.
        access: learns what is refused.
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: PahoClient,
        subscriptions: list[Subscription],
        access: TopicAccess,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._subscriptions = subscriptions
        self._access = access
        self._clock = clock
        self._asked: dict[int, list[Subscription]] = {}
        """What each request that has no answer yet was for, by its identifier."""
        self._limit_mono_s = math.inf
        self.is_answered = False
        """True once the broker has answered, whatever it said, or there was nothing to ask for."""

    def ask(self, granted: Granted) -> None:
        """Subscribe, or subscribe again, to what the broker may grant."""
        asked: list[Subscription] = []
        for wish in self._subscriptions:
            problem = granted.problem_of(wish.topic)
            if problem is None:
                asked.append(wish)
            else:
                # A broker would grant it all the same, and send nothing.
                self._access.refuse("subscription", wish.topic, problem, self._clock(), advice="")
        if not asked:
            self.is_answered = True
        else:
            self._send(asked)
        self._limit_mono_s = math.inf if self.is_answered else self._clock() + _ANSWER_LIMIT_S

    def add(self, wish: Subscription) -> None:
        """Subscribe to one more, which is among the subscriptions already, where those were asked for."""
        if self._asked or self.is_answered:
            self._send([wish])

    def _send(self, wishes: list[Subscription]) -> None:
        if self._client.speaks_5:
            _, mid = self._client.subscribe([(wish.topic, _options(wish)) for wish in wishes])
        else:
            _, mid = self._client.subscribe([(wish.topic, wish.qos) for wish in wishes])
        if mid is not None:
            self._asked[mid] = wishes

    def answered(self, mid: int, codes: list[Any]) -> None:
        """Note the broker's answer.

        Args:
            mid: identifier of the request.
            codes: paho's, one for each subscription of it.
        """
        self.is_answered = True
        for (topic, qos, _), code in zip(self._asked.pop(mid, []), codes, strict=False):
            if code.is_failure:
                without = {
                    _SHARED_REFUSED: Granted(shared_subscriptions=False),
                    _WILDCARDS_REFUSED: Granted(wildcards=False),
                }
                problem = without.get(code.value, Granted()).problem_of(topic)
                if problem is None:
                    self._access.refuse("subscription", topic, str(code), self._clock())
                else:
                    self._access.refuse("subscription", topic, problem, self._clock(), advice="")
                continue
            self._access.accept(topic)
            if code.value < qos:
                log.warning(
                    "broker sends at QoS %d only, readings may be lost topic=%.80s qos=%d", code.value, topic, qos
                )

    def beat(self, now_mono_s: float) -> None:
        """Tell once where the broker should have answered by now. To be called while nothing that came is unread."""
        if not self.is_answered and now_mono_s > self._limit_mono_s:
            self._limit_mono_s = math.inf
            log.warning("broker has not answered our subscriptions for %.0f s, no status says online", _ANSWER_LIMIT_S)

    def end(self) -> None:
        """Unsubscribe from all that was asked for."""
        if self._asked or (self.is_answered and self._subscriptions):
            self._client.unsubscribe([wish.topic for wish in self._subscriptions])

    def any_refused(self) -> bool:
        """Whether the broker refuses one of them."""
        return any(each.topic in self._access.refused for each in self._subscriptions)

    def wants_retained(self, topic: bytes) -> bool:
        """Whether a retained copy on a topic is wanted."""
        name = topic.decode(errors="replace")
        return any(each.wants_retained and topic_matches_sub(each.topic, name) for each in self._subscriptions)


def _options(wish: Subscription) -> SubscribeOptions:
    handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if wish.wants_retained else SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(qos=wish.qos, retainHandling=handling)
