"""Readings around raises on their way to the broker: what it refuses, or is silent on, holds up no other.

Client, link and paho are real; the broker (fake_broker.py), the opener and the clock are not.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fake_broker import FakeBroker, FakeOpener, Rule

from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.settings import BrokerSettings, MqttProtocol
from edge_agent.outputs.evidence import EvidenceQueue

BAD, GOOD = "edge/g1/evidence/pump/bad", "edge/g1/evidence/pump/good"


class World:
    """The queue, its connection and the broker, on one clock that the test moves."""

    def __init__(self, limit_bytes: int = 1_000_000) -> None:
        self.now = 1000.0
        self.broker = FakeBroker(self.clock, speaks_5=True)
        opener: Any = FakeOpener(self.broker)
        self.client = MqttClient(
            BrokerSettings(protocol=MqttProtocol.V5),
            client_id="g1",
            subscriptions=[],
            former=[],
            will=None,
            birth=None,
            wake=lambda: None,
            opener=opener,
            clock=self.clock,
        )
        self.queue = EvidenceQueue(self.client, limit_bytes)
        self.let_pass(2)

    def clock(self) -> float:
        return self.now

    def let_pass(self, seconds: int) -> None:
        """As many turns of the loop as the agent has in that time, at the least."""
        for _ in range(4 * seconds):
            self.now += 0.25
            self.broker.work()
            self.client.tick()
            self.client.take(100)
            for mid, answer in self.client.answers():
                self.queue.answered(mid, answer)
            self.queue.send()
            self.client.flush()

    def taken(self, topic: str) -> list[bytes]:
        return [message.payload for message in self.broker.taken if message.topic == topic]


@pytest.mark.parametrize("rule", [Rule.REFUSES, Rule.REFUSES_AND_ENDS, Rule.ENDS, Rule.DISCONNECTS, Rule.SILENT])
def test_a_topic_that_is_not_taken_holds_up_no_other_and_comes_once_it_is(rule: Rule) -> None:
    """However a broker says no. It is told once."""
    world = World()
    world.broker.rules[BAD] = rule
    world.queue.add(BAD, [b"bad %d" % number for number in range(6)])
    world.queue.add(GOOD, [b"good %d" % number for number in range(6)])
    world.let_pass(150)
    assert [*dict.fromkeys(world.taken(GOOD))] == [b"good %d" % number for number in range(6)]
    assert world.taken(BAD) == []
    assert world.queue.describe() == {"waiting_bytes": 6 * len(b"bad 0"), "published": 6, "dropped": 0}
    world.broker.rules[BAD] = Rule.TAKES
    if rule is Rule.SILENT:
        world.broker.lose_connection()  # answers come in order, so this one would be silent for ever
    world.let_pass(150)
    assert {*world.taken(BAD)} == {b"bad %d" % number for number in range(6)}
    assert world.queue.describe() == {"waiting_bytes": 0, "published": 12, "dropped": 0}
    assert world.client.status.refused == {}


def test_a_refusal_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Though it is asked again each minute, with one message."""
    world = World()
    world.broker.rules[BAD] = Rule.REFUSES
    world.queue.add(BAD, [b"1", b"2", b"3", b"4"])
    with caplog.at_level(logging.ERROR):
        world.let_pass(200)
    assert [record.getMessage().partition(" answer=")[0] for record in caplog.records] == [
        f"message refused topic={BAD}"
    ]
    assert world.client.status.refused == {BAD: "not authorized"}
    # Two at first, and then one a minute.
    assert len(world.broker.published) <= 2 + 4


def test_what_is_refused_gives_way_first_and_is_forgotten_with_its_last_message() -> None:
    """It is the oldest, and nobody would ever learn that its topic is taken again."""
    world = World(limit_bytes=1000)
    world.broker.rules[BAD] = Rule.REFUSES
    world.queue.add(BAD, [b"x" * 300] * 3)
    world.let_pass(2)
    assert world.client.status.refused == {BAD: "not authorized"}
    world.broker.is_paused = True
    world.queue.add(GOOD, [b"y" * 300] * 2)
    assert world.queue.describe()["dropped"] == 2
    assert world.client.status.refused == {BAD: "not authorized"}
    world.queue.add(GOOD, [b"y" * 300])
    assert world.queue.describe()["dropped"] == 3
    assert world.client.status.refused == {}
    world.broker.is_paused = False
    world.let_pass(2)
    assert world.taken(GOOD) == [b"y" * 300] * 3
