"""What is told beside alerts gives way where connections end because of it."""

from __future__ import annotations

import logging
from typing import cast

import pytest

from edge_agent.agent.beside import Beside
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message


class Connection:
    """As much of an `MqttClient` as is asked here."""

    def __init__(self) -> None:
        self.state = ClientState.CONNECTED
        self.session = "s0"
        self.published: list[Message] = []

    def publish(self, message: Message) -> int | None:
        if self.state is not ClientState.CONNECTED:
            return None
        self.published.append(message)
        return len(self.published)

    def connect_anew(self) -> None:
        self.session = f"s{int(self.session[1:]) + 1}"


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def beside(connection: Connection) -> Beside:
    return Beside(cast("MqttClient", connection))


def test_a_first_connection_is_told_at_once_and_none_while_it_is_away(connection: Connection, beside: Beside) -> None:
    """Nothing is kept; and what is told is marked, so that it is blamed for nothing."""
    assert beside.is_open(0.0)
    assert beside.publish("t", b"1", retain=True)
    assert connection.published == [Message("t", b"1", 0, retain=True, is_beside=True)]
    connection.state = ClientState.WAITING
    assert not beside.is_open(1.0)
    assert not beside.publish("t", b"2")


def test_each_connection_that_ends_soon_doubles_the_pause_up_to_an_hour(
    connection: Connection, beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    """And from a minute on it is told, as then somebody has to look at the broker's rules."""
    now, pauses = 0.0, []
    for _ in range(13):
        while not beside.is_open(now):
            now += 5.0
        beside.publish("t", b"1")
        connection.connect_anew()
        began = now
        with caplog.at_level(logging.WARNING):
            beside.is_open(now)
        while not beside.is_open(now):
            now += 5.0
        pauses.append(now - began)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert caplog.messages[0].startswith("connections end soon after scores or the like are told")
    assert len(caplog.messages) == 9


def test_a_connection_that_lasted_is_no_sign(connection: Connection, beside: Beside) -> None:
    """Nor is one on which nothing was told."""
    assert beside.is_open(0.0)
    connection.connect_anew()
    assert beside.is_open(1.0)
    for at in (0.0, 1.0):
        beside.publish("t", b"1")
        connection.connect_anew()
        assert not beside.is_open(1000.0 * (at + 1))
        assert not beside.is_open(1000.0 * (at + 1) + 4.9)
        assert beside.is_open(1000.0 * (at + 1) + 5.0)
