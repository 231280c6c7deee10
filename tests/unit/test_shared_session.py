"""A session that ends with its connection: what was received stays, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from fake_broker import FakeBroker, FakeOpener

from edge_agent.config.settings import Shared
from edge_agent.config.shared import sharing_problems
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import TopicFilter, TopicFilters
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Subscription
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.sources.sessions import Sessions


@pytest.mark.parametrize(("keeps", "left"), [(True, []), (False, [("a", 0), ("b", 0)])])
def test_readings_of_a_lost_connection_stay_where_nobody_sends_them_again(
    keeps: bool, left: list[tuple[str, int]]
) -> None:
    """Without their identifiers, which mean other messages on the next connection."""
    now = 1000.0
    broker = FakeBroker(lambda: now, speaks_5=True)
    opener: Any = FakeOpener(broker)
    opener.keeps_session = keeps
    client = MqttClient(
        BrokerSettings(host="a"),
        client_id="g1",
        subscriptions=[Subscription("$share/g/sensors/+", 1)],
        former=[],
        will=None,
        birth=None,
        wake=lambda: None,
        opener=opener,
        clock=lambda: now,
    )
    for _ in range(10):
        client.tick()
        client.flush()
        broker.work()
        client.take(10)
        now += 1.0
    assert client.state is ClientState.CONNECTED
    client._held = [Delivery(Topic(b"sensors/1"), body, mid, True) for mid, body in ((7, b"a"), (8, b"b"))]
    broker.lose_connection()
    client.read_control()
    assert client.state is not ClientState.CONNECTED
    assert client.has_backlog != keeps
    taken = [*client.take(1), *client.take(1)]
    assert [(each.payload.decode(), each.mid) for each in taken] == left
    assert client.take(10) == []


def test_a_session_that_was_left_in_good_order_is_not_missed() -> None:
    """The next start finds none, and should find none."""
    sessions = Sessions()
    sessions.connected("b:1883", session_present=False, scored=list)
    assert Sessions(sessions.record()).connected("b:1883", session_present=False, scored=list)
    sessions.left()
    assert not Sessions(sessions.record()).connected("b:1883", session_present=False, scored=list)


@pytest.mark.parametrize(
    ("topic", "asset", "spreads"),
    [
        ("$share/g/sensors/+/pump", None, False),
        ("$share/g/sensors/pump", None, False),
        ("$share/g/{line}/{cell}/pump", "{line}-{cell}", False),
        ("$share/g/{line}/{cell}/pump", "{cell}", True),
        ("$share/g/{any}/{asset}", None, True),
        ("$share/g/{asset}/{channel}", None, True),
        ("$share/g/s/{asset}/#", None, True),
    ],
)
def test_a_filter_knows_whether_an_asset_may_have_several_topics(topic: str, asset: str | None, spreads: bool) -> None:
    """Then a broker that keeps each topic at one member does not keep each asset there."""
    filters = TopicFilters([TopicFilter(topic, asset)])
    assert (filters.is_shared, filters.spreads_assets) == (True, spreads)
    problems = sharing_problems({"topic": topic, "shared": Shared.BY_TOPIC}, filters)
    assert bool(problems) == spreads
