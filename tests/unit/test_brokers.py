"""What is asked of the readings' broker beside the subscriptions."""

from __future__ import annotations

import math

from edge_agent.mqtt.brokers import Brokers
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.settings import MqttSettings


def test_what_is_retained_is_asked_for_beside_the_subscriptions_and_not_for_ever() -> None:
    """Once at a time, for a hundred topics at most; a subscription of that very topic stays."""
    own = [Subscription("ie/m/+/dp", 1, wants_retained=True), Subscription("ie/m/s7c1/dp", 1, wants_retained=True)]
    subscriptions = [*own]
    brokers = Brokers(
        MqttSettings(),
        agent="g1",
        subscriptions=subscriptions,
        former=[],
        will=lambda session: Message("edge/g1/status", session.encode()),
        birth=lambda session: Message("edge/g1/status", session.encode()),
        wake=lambda: None,
        connected=lambda _address, _session_present: False,
    )
    for topic in ("ie/m/s7c1/dp", "ie/m/s7c2/dp", "ie/m/s7c2/dp"):
        brokers.ask_retained(topic)
    assert subscriptions == [*own, Subscription("ie/m/s7c2/dp", 1, wants_retained=True)]
    for number in range(200):
        brokers.ask_retained(f"ie/m/made-up-{number}/dp")
    assert len(subscriptions) == len(own) + 100
    brokers._end_asking(math.inf)
    assert subscriptions == own
    brokers.ask_retained("ie/m/s7c2/dp")
    assert len(subscriptions) == len(own) + 1
