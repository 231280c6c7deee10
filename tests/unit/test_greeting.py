"""What is told of a connection that has come up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.agent.unheard import Unheard
from edge_agent.mqtt.address import Address
from edge_agent.mqtt.client import ClientState
from edge_agent.mqtt.granted import Granted
from edge_agent.mqtt.greeting import Greeting
from edge_agent.sources.sessions import Sessions

BROKER = Address("b", 1883)


def link(*, session_present: bool = True, **granted: Any) -> Any:
    return SimpleNamespace(session_present=session_present, granted=Granted(**granted))


def test_a_session_that_the_broker_has_forgotten_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With what may be lost, since when; health counts it. A first connection, and a kept session, are none."""
    greeting = Greeting()
    greeting.came_up(BROKER, "s1", link(session_present=False), is_known=False)
    greeting.ended()
    greeting.came_up(BROKER, "s2", link(), is_known=True)
    assert greeting.describe() == {"count": 0, "since": None, "until": None}
    assert "forgotten" not in caplog.text
    greeting.ended()
    greeting.came_up(BROKER, "s3", link(session_present=False), is_known=True)
    found = greeting.describe()
    assert found["count"] == 1
    assert found["since"] <= found["until"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"readings at QoS 1 that were sent meanwhile may be lost host=b since={found['since']}" in caplog.text


def test_a_connection_is_told_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    """An agent may have three: of its readings, of its alerts, of its Sparkplug node."""
    caplog.set_level("INFO")
    Greeting((), "edge-agent-g1-sparkplug").came_up(BROKER, "s1", link(), is_known=True)
    told = "broker connected host=b port=1883 client=edge-agent-g1-sparkplug session=s1 session_present=True"
    assert told in caplog.text


def test_a_session_of_an_earlier_run_is_missed_too(caplog: pytest.LogCaptureFixture) -> None:
    """The journal knows that there was one; since when, nobody noted."""
    sessions = Sessions()
    assert not sessions.connected("b:1883", session_present=False, scored=list)
    again = Sessions(sessions.record())
    is_known = again.connected("b:1883", session_present=False, scored=list)
    assert is_known
    assert not again.connected("other:1883", session_present=False, scored=list)
    greeting = Greeting()
    greeting.came_up(BROKER, "s1", link(session_present=False), is_known=is_known)
    assert greeting.describe()["since"] is None
    assert "since=the agent's last run" in caplog.text


def test_limits_are_told_once_and_again_when_they_change(caplog: pytest.LogCaptureFixture) -> None:
    """Connections come and go all day."""
    greeting = Greeting(("press-7",))
    for session_s in (60, 60, None, 60):
        greeting.came_up(BROKER, "s", link(session_s=session_s), is_known=True)
    assert caplog.text.count("broker keeps readings for 60 s only while the agent is away host=b") == 2


@pytest.mark.parametrize(("name", "shared", "told"), [("p.7", False, True), ("p.7", True, False), ("p7", False, False)])
def test_a_dot_in_the_id_is_told_at_rabbitmq(
    name: str, shared: bool, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is known by what it does not have."""
    Greeting((name,)).came_up(BROKER, "s", link(shared_subscriptions=shared), is_known=False)
    assert ("takes dots in topics for slashes, and 'p.7' has one" in caplog.text) == told


def test_a_topic_that_brings_nothing_is_told_in_the_older_protocol(caplog: pytest.LogCaptureFixture) -> None:
    """After a minute, once; again only when something had come. In MQTT 5 a broker says what it refuses."""
    streams: list[Any] = [
        SimpleNamespace(
            name=name,
            counters=SimpleNamespace(received=0),
            loaded=SimpleNamespace(section=SimpleNamespace(input=source)),
            filters=SimpleNamespace(subscriptions=[f"sensors/+/{name}"]),
        )
        for name, source in (("pump", None), ("fan", None), ("lines", "/a/pipe"))
    ]
    readings: Any = SimpleNamespace(state=ClientState.CONNECTED, speaks_5=False)
    unheard = Unheard(streams, readings)

    def let_pass(first: int, last: int) -> list[str]:
        caplog.clear()
        for second in range(first, last, 10):
            streams[1].counters.received += 1
            unheard.look(float(second))
        return [record.getMessage().partition(";")[0] for record in caplog.records]

    warning = "nothing has come for a minute stream=pump topic=sensors/+/pump"
    assert let_pass(0, 60) == []
    assert let_pass(60, 200) == [warning]
    streams[0].counters.received += 1
    assert let_pass(200, 250) == []
    assert let_pass(250, 400) == [warning]
    streams[0].counters.received += 1
    readings.speaks_5 = True
    assert let_pass(400, 600) == []
