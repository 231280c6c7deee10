"""Several addresses of one broker: how they are written, whose turn it is, and what is not believed of the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_broker import FakeBroker, FakeOpener, Rule
from fakes import outgoing

from edge_agent.agent.publisher import Publisher
from edge_agent.journal.journal import Commit, Journal
from edge_agent.mqtt.address import Address, read_address
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.settings import BrokerSettings, broker_problems, broker_remarks

ALERT = "edge/g1/alerts/s/a"


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("10.0.0.2", Address("10.0.0.2", 1883), "10.0.0.2:1883"),
        ("broker-b:8883", Address("broker-b", 8883), "broker-b:8883"),
        ("broker_b.plant.", Address("broker_b.plant.", 1883), "broker_b.plant.:1883"),
        ("[fd00::2]:8883", Address("fd00::2", 8883), "[fd00::2]:8883"),
        ("[fe80::1%eth0]", Address("fe80::1%eth0", 1883), "[fe80::1%eth0]:1883"),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(text: str, address: Address, shown: str) -> None:
    """An IPv6 address stands in brackets."""
    assert read_address(text, 1883) == address
    assert str(address) == shown


FORM = "expected HOST or HOST:PORT, with an IPv6 address in brackets"
NAME = "expected the name of a host before the port, without scheme, path or user"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fd00::2", FORM),
        ("broker:", FORM),
        ("broker:18x", FORM),
        (":1883", FORM),
        ("[fd00::2", FORM),
        ("mqtt://broker", FORM),
        ("broker:0", "expected a port from 1 to 65535"),
        ("broker:65536", "expected a port from 1 to 65535"),
        ("10.0.0.256", "expected an IP address, or the name of a host"),
        ("10.0.0", "expected an IP address, or the name of a host"),
        ("[broker]", "expected an IP address, or the name of a host"),
        ("user@broker", NAME),
        ("broker/mqtt", NAME),
        ("a broker", NAME),
        ("-broker", NAME),
        ("broker..b", NAME),
    ],
)
def test_what_is_no_address_is_told_with_what_was_expected(text: str, problem: str) -> None:
    """All in one line."""
    assert broker_problems(BrokerSettings(standby=(text,))) == [f"standby = {text!r}: {problem}"]


@pytest.mark.parametrize(
    ("host", "standby", "problem"),
    [
        ("b", ("b:1883",), "standby = 'b:1883': is b:1883, which host names already; leave one out"),
        ("b", ("B.",), "standby = 'B.': is B.:1883, which host names already; leave one out"),
        ("b", ("c", "c:1883"), "standby = 'c:1883': is c:1883, which 'c' names already; leave one out"),
        (
            "fd00:0::2",
            ("[fd00::2]",),
            "standby = '[fd00::2]': is [fd00::2]:1883, which host names already; leave one out",
        ),
    ],
)
def test_an_address_that_is_named_twice_is_told(host: str, standby: tuple[str, ...], problem: str) -> None:
    """However it is spelled; another port of the same host is another address."""
    assert broker_problems(BrokerSettings(host=host, standby=standby)) == [problem]
    assert broker_problems(BrokerSettings(host="b", standby=("b:1884",))) == []


def test_a_password_that_goes_to_a_standby_unencrypted_is_told(tmp_path: Path) -> None:
    """Although `host` is this machine."""
    (tmp_path / "p").write_text("secret")
    (tmp_path / "p").chmod(0o600)
    settings = BrokerSettings(username="u", password_file=str(tmp_path / "p"), standby=("10.0.0.2", "127.0.0.2"))
    assert broker_remarks(settings) == ["password_file: the password goes to 10.0.0.2 unencrypted; set tls = true"]


class Plant:
    """An agent's publishing side and two brokers, a and b, on one clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.a, self.b = (FakeBroker(self.clock, speaks_5=True) for _ in "ab")
        self.opener = FakeOpener(self.a, {"b": self.b})
        opener: Any = self.opener
        self.connected: list[tuple[str, bool]] = []
        self.client = MqttClient(
            BrokerSettings(host="a", standby=("b",)),
            client_id="g1",
            subscriptions=[Subscription("sensors/+", 1)],
            former=[],
            will=None,
            birth=lambda session: Message("edge/g1/status", session.encode(), 1, True),
            wake=lambda: None,
            connected=self.note,
            opener=opener,
            clock=self.clock,
        )
        self.journal = Journal(Path("/dev/null/in memory"))
        self.publisher = Publisher(self.client, self.journal)

    def note(self, address: str, session_present: bool) -> bool:
        self.connected.append((address, session_present))
        return False

    def clock(self) -> float:
        return self.now

    def turn(self) -> None:
        for broker in (self.a, self.b):
            broker.work()
        self.client.tick()
        self.client.take(100)
        self.publisher.pump()
        self.client.flush()

    def settle(self) -> None:
        """Let happen what needs no time."""
        before, quiet = None, 0
        while quiet < 3:  # the end of a connection shows in one turn, and what follows in the next
            quiet = quiet + 1 if before == (before := (len(self.opener.attempts), self.seen())) else 0
            self.turn()

    def seen(self) -> list[int]:
        return [len(each) for broker in (self.a, self.b) for each in (broker.lines, broker.published)]

    def let_pass(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.settle()
            self.publisher.tend()

    def add_event(self, payload: bytes) -> None:
        self.journal.commit(Commit(events=[(ALERT, payload)]))
        self.publisher.events_added()

    def asked(self, host: str) -> int:
        return sum(asked == host for _, asked in self.opener.attempts)

    @property
    def at(self) -> str:
        """Where the agent is connected."""
        address = self.client.status.describe()["address"]
        return str(address) if self.client.state is ClientState.CONNECTED else ""


@pytest.fixture
def plants() -> Iterator[Callable[[], Plant]]:
    with ExitStack() as stack:

        def make() -> Plant:
            plant = Plant()
            stack.callback(plant.journal.close)
            return plant

        yield make


def test_the_standby_is_tried_at_once_where_the_host_is_away(plants: Callable[[], Plant]) -> None:
    """And what tells of the connection names the address that is in use."""
    plant = plants()
    plant.a.is_away = True
    plant.settle()
    assert plant.opener.attempts == [(1000.0, "a"), (1000.0, "b")]
    assert plant.at == "mqtt://b:1883"
    assert plant.client.status.summary() == "connected to mqtt://b:1883"
    assert plant.client.status.describe()["other_addresses"] == {"mqtt://a:1883": "connection refused"}
    assert plant.connected == [("b:1883", False)]


def test_a_broker_that_refuses_gives_the_turn_to_the_next(
    plants: Callable[[], Plant], caplog: pytest.LogCaptureFixture
) -> None:
    """The log has both addresses."""
    plant = plants()
    plant.a.refusal = 0x89  # busy
    plant.settle()
    assert plant.at == "mqtt://b:1883"
    assert "broker not connected host=a port=1883 reason=unavailable" in caplog.text
    assert "next=b:1883 retry_s=0.0" in caplog.text


def test_after_a_round_without_success_there_is_a_pause(plants: Callable[[], Plant]) -> None:
    """A dead cluster is not hammered: both addresses without a pause between them, and then the back-off."""
    plant = plants()
    plant.a.is_away = plant.b.is_away = True
    plant.let_pass(600)
    times = [when for when, _ in plant.opener.attempts]
    assert plant.asked("a") == plant.asked("b")
    assert times[0::2] == times[1::2]
    assert 15 < plant.asked("a") < 120
    summary = plant.client.status.summary()
    assert "mqtt://a:1883: connection refused" in summary
    assert "mqtt://b:1883: connection refused" in summary


def test_a_wrong_password_makes_no_fast_loop(plants: Callable[[], Plant]) -> None:
    """Each address is asked about once a minute, and all at once when a file changes."""
    plant = plants()
    plant.a.refusal = plant.b.refusal = 0x86
    plant.let_pass(600)
    assert 8 <= plant.asked("a") <= 14
    assert 8 <= plant.asked("b") <= 14
    plant.opener.attempts.clear()
    plant.b.refusal, plant.opener.files_are_new = 0, True
    plant.let_pass(1)
    assert plant.at == "mqtt://b:1883"
    assert plant.asked("a") <= 1


def test_an_address_that_refuses_for_good_does_not_slow_down_the_others(plants: Callable[[], Plant]) -> None:
    """It is passed over for its minute; the other one may be back any moment."""
    plant = plants()
    plant.a.refusal, plant.b.is_away = 0x86, True
    plant.let_pass(600)
    assert 5 <= plant.asked("a") <= 14
    assert 15 < plant.asked("b") < 120


def test_a_connection_that_lasted_is_made_anew_at_the_same_address(plants: Callable[[], Plant]) -> None:
    """That broker's session has what was not acknowledged. If it is away, the other one has its turn at once."""
    plant = plants()
    plant.a.is_away = True
    plant.let_pass(10)
    plant.a.is_away = False
    plant.b.lose_connection()
    plant.settle()
    assert plant.at == "mqtt://b:1883"
    plant.let_pass(10)
    plant.b.is_away = True
    plant.b.lose_connection()
    plant.settle()
    assert plant.at == "mqtt://a:1883"


def test_a_silent_broker_has_its_turn_last(plants: Callable[[], Plant]) -> None:
    """Another attempt there would take its time to fail."""
    plant = plants()
    plant.let_pass(10)
    assert plant.at == "mqtt://a:1883"
    plant.a.is_paused = True
    plant.let_pass(45)
    assert plant.at == "mqtt://b:1883"
    assert plant.asked("a") == 1


def test_a_broker_that_ends_connections_at_once_does_not_keep_the_agent(plants: Callable[[], Plant]) -> None:
    """It takes us, and ends it; the other one serves."""
    plant = plants()
    plant.settle()
    plant.a.lose_connection()
    plant.settle()
    assert plant.at == "mqtt://b:1883"


def test_what_one_broker_refuses_the_next_one_is_asked(plants: Callable[[], Plant]) -> None:
    """At once: refused topics and careful mode are of one broker."""
    plant = plants()
    plant.a.rules[ALERT] = Rule.REFUSES
    plant.let_pass(5)
    plant.add_event(b"1")
    plant.settle()
    plant.let_pass(5)
    assert plant.client.status.describe()["refused"] == {ALERT: "not authorized"}
    plant.a.is_away = True
    plant.a.lose_connection()
    plant.settle()
    assert [message.payload for message in plant.b.taken if message.topic == ALERT] == [b"1"]
    assert plant.client.status.describe()["refused"] == {}
    plant.turn()
    assert outgoing(plant.journal, 0, 9) == []


def test_a_broker_that_ends_connections_for_a_message_is_found_out_at_its_address(plants: Callable[[], Plant]) -> None:
    """The next connection finds out more, so it goes to the same broker."""
    plant = plants()
    plant.let_pass(10)
    plant.a.rules[ALERT] = Rule.ENDS
    plant.add_event(b"1")
    plant.let_pass(30)
    assert plant.client.status.describe()["refused"] == {ALERT: "the broker ends the connection"}
    assert plant.at == "mqtt://a:1883"
    assert plant.asked("b") == 0


def test_a_broker_that_ends_connections_for_every_message_gives_the_turn_to_the_next(
    plants: Callable[[], Plant],
) -> None:
    """Its disk is full, say. To find that out topic by topic would take minutes, while another one takes them all."""
    plant = plants()
    topics = [f"{ALERT}{number}" for number in range(60)]
    plant.a.rules |= dict.fromkeys(topics, Rule.ENDS)
    plant.let_pass(10)
    plant.journal.commit(Commit(events=[(topic, topic.encode()) for topic in topics]))
    plant.publisher.events_added()
    plant.let_pass(10)
    assert plant.at == "mqtt://b:1883"
    assert {message.topic for message in plant.b.taken} >= {*topics}


def test_a_broker_that_says_it_is_about_to_stop_has_its_turn_last(plants: Callable[[], Plant]) -> None:
    """MQTT 5 lets it say so; nothing is to be had there."""
    plant = plants()
    plant.let_pass(10)
    plant.a.lines[-1].to_client.append((b"\xe0\x02\x8b\0", None))
    plant.settle()
    assert plant.at == "mqtt://b:1883"
    assert plant.asked("a") == 1


def test_an_older_broker_does_not_make_the_next_one_older(plants: Callable[[], Plant]) -> None:
    """MQTT 3.1.1 is spoken with the one that knows no other."""
    plant = plants()
    plant.a.speaks_5 = False
    plant.let_pass(10)
    assert (plant.at, plant.client.status.describe()["protocol"]) == ("mqtt://a:1883", "3.1.1")
    plant.a.is_away = True
    plant.a.lose_connection()
    plant.settle()
    assert (plant.at, plant.client.status.describe()["protocol"]) == ("mqtt://b:1883", "5")
