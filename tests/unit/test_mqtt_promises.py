"""The promises of docs/mqtt.md, against brokers that take, refuse, end connections and fall silent in any order.

Publisher, client, link, paho and the journal are real; the broker (fake_broker.py), the opener and the clock are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_broker import FakeBroker, FakeOpener, Rule
from fakes import outgoing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.agent.publisher import Publisher
from edge_agent.journal.journal import Commit, Journal
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.settings import BrokerSettings, MqttProtocol
from edge_agent.mqtt.topic_states import TopicState

SUBSCRIPTION = "sensors/+"
STATUS, HEALTH, REJECTED = "edge/g1/status", "edge/g1/health", "edge/g1/rejected"
STREAM = "edge/g1/alerts/s"
ALERTS = [f"{STREAM}/{asset}" for asset in "abcd"]
TOPICS = [*ALERTS, STATUS, HEALTH, REJECTED]
ENDING = {Rule.ENDS, Rule.DISCONNECTS, Rule.REFUSES_AND_ENDS}
HEALTH_INTERVAL_S = 20
MINUTE_S = 60


class World:
    """An agent's publishing side and its broker, on one clock that the test moves."""

    def __init__(self, *, speaks_5: bool = True) -> None:
        self.now = 1000.0
        self.broker = FakeBroker(self.clock, speaks_5=speaks_5)
        opener: Any = FakeOpener(self.broker)
        self.client = MqttClient(
            BrokerSettings(protocol=MqttProtocol.V5 if speaks_5 else MqttProtocol.V311),
            client_id="g1",
            subscriptions=[Subscription(SUBSCRIPTION, 1)],
            former=[],
            will=None,
            birth=lambda session: Message(STATUS, session.encode(), 1, True),
            wake=lambda: None,
            opener=opener,
            clock=self.clock,
        )
        self.journal = Journal(Path("/dev/null/in memory"))
        self.publisher = Publisher(self.client, self.journal)
        self.committed: dict[str, list[bytes]] = {topic: [] for topic in ALERTS}
        self._health_due_s = self.now + HEALTH_INTERVAL_S
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    def add_events(self, topic: str, count: int) -> None:
        events = [(topic, b"%s %d" % (topic.encode(), next(self._numbers))) for _ in range(count)]
        self.journal.commit(Commit(events=events))
        self.committed[topic] += [payload for _, payload in events]
        self.publisher.events_added()

    def turn(self) -> None:
        """One turn of the loop, as in agent/loop.py."""
        self.broker.work()
        self.client.tick()
        self.client.take(100)
        self.publisher.pump()
        self.client.flush()
        if self.now >= self._health_due_s:
            self._health_due_s = self.now + HEALTH_INTERVAL_S
            self.publisher.tend()
            self.client.publish(Message(HEALTH, b"{}", retain=True))

    def let_pass(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            before = None
            while before != (before := (len(self.broker.lines), len(self.broker.published))):
                self.turn()

    def waiting(self) -> list[tuple[str, bytes]]:
        return [(event.topic, event.payload) for event in outgoing(self.journal, 0, 1_000_000)]

    def given_up_and_told(self) -> int:
        """How many events the broker was told of that were given up."""
        told = {m.payload for m in self.broker.taken if m.topic == f"{STREAM}/stream"}
        return sum(msgspec.json.decode(payload)["count"] for payload in told)


class Promises(RuleBasedStateMachine):
    """Whatever the broker does, and in whatever order."""

    world: World

    @initialize(speaks_5=st.booleans())
    def begin(self, speaks_5: bool) -> None:
        """An agent starts."""
        self.world = World(speaks_5=speaks_5)
        self.world.let_pass(1)

    # What may happen --------------------------------------------------------------------------------------------

    @rule(topic=st.sampled_from(ALERTS), count=st.integers(1, 4))
    def add_events(self, topic: str, count: int) -> None:
        """Alerts are raised."""
        self.world.add_events(topic, count)

    @rule(topic=st.sampled_from(ALERTS))
    def add_hundreds_of_events(self, topic: str) -> None:
        """More than may be on their way at once."""
        self.world.add_events(topic, 130)

    @rule(topics=st.permutations(ALERTS))
    def add_events_of_all(self, topics: list[str]) -> None:
        """Many alerts at once."""
        for topic in topics:
            self.world.add_events(topic, 2)

    @rule(topic=st.sampled_from(TOPICS), what=st.sampled_from(Rule))
    def change_mind(self, topic: str, what: Rule) -> None:
        """The broker's access rules are changed."""
        if not self.world.broker.speaks_5 and what is not Rule.TAKES and what is not Rule.SILENT:
            what = Rule.ENDS
        self.world.broker.rules[topic] = what

    @rule(refused=st.booleans())
    def change_mind_of_subscription(self, refused: bool) -> None:
        """The same for what we read."""
        self.world.broker.rules[SUBSCRIPTION] = Rule.REFUSES if refused else Rule.TAKES

    @rule()
    def turn(self) -> None:
        """The loop runs once."""
        self.world.turn()

    @rule(seconds=st.sampled_from([1, 3, 11, 30, 62, 130]))
    def let_pass(self, seconds: int) -> None:
        """Time passes."""
        self.world.let_pass(seconds)

    @rule()
    def send_rejected_sample(self) -> None:
        """A reading cannot be read."""
        self.world.client.publish(Message(REJECTED, b"{}"))

    @rule()
    def lose_connection(self) -> None:
        """A cable is pulled for a moment."""
        self.world.broker.lose_connection()

    @rule(away=st.booleans())
    def stop_or_start_broker(self, away: bool) -> None:
        """The broker is stopped, or started."""
        self.world.broker.is_away = away
        if away:
            self.world.broker.lose_connection()

    @rule(paused=st.booleans())
    def pause_broker(self, paused: bool) -> None:
        """The broker is busy with something else."""
        self.world.broker.is_paused = paused

    # What holds at any time -------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_deleted_without_its_acknowledgement(self) -> None:
        """architecture.md: "brings the journal's outbox to the broker ... and deletes each on its PUBACK"; mqtt.md:
        "What is refused for its topic's name or its content alone (0x90, 0x99) is given up"."""
        broker, waiting = self.world.broker, {payload for _, payload in self.world.waiting()}
        gone = {payload for events in self.world.committed.values() for payload in events} - waiting
        assert gone <= broker.acknowledged | broker.never

    @invariant()
    def every_alert_goes_at_qos_1(self) -> None:
        """mqtt.md: `edge/{agent}/alerts/{stream}/{asset}` is of QoS 1, also after a connection was lost."""
        assert all(message.qos == 1 for message in self.world.broker.published if message.topic.startswith(STREAM))

    @invariant()
    def every_connection_subscribes(self) -> None:
        """link.py: subscriptions are "made on every connection: a broker may have forgotten them"."""
        for line in self.world.broker.lines:
            assert not line.published or (SUBSCRIPTION, 1) in line.subscriptions or line.is_ended

    # What holds when the broker keeps to one set of rules -------------------------------------------------------

    def teardown(self) -> None:
        """First with the rules as they are, then with those of a broker that takes everything."""
        if not hasattr(self, "world"):
            return
        try:
            world = self.world
            world.broker.is_away = world.broker.is_paused = False
            for topic in ALERTS:
                world.add_events(topic, 2)
            self._steady()
            self._repaired()
        finally:
            self.world.journal.close()

    def _steady(self) -> None:
        world, broker = self.world, self.world.broker
        began_s = world.now
        misbehaving = [topic for topic in TOPICS if broker.rules[topic] is not Rule.TAKES]
        world.let_pass(MINUTE_S * (3 + 2 * len(misbehaving)))
        self._holds_up_no_other()
        self._asks_each_minute(misbehaving, began_s)
        self._ends_few_connections(misbehaving, began_s)

    def _holds_up_no_other(self) -> None:
        """mqtt.md: "A refused alert stays in the journal, and holds up none of other topics"; "A topic whose first
        message gets no answer at all keeps the others for a minute at most"."""
        broker = self.world.broker
        taken = {topic for topic in ALERTS if broker.rules[topic] is Rule.TAKES} - broker.lines[-1].silent
        assert not [topic for topic, _ in self.world.waiting() if topic in taken], dict(broker.rules)

    def _asks_each_minute(self, misbehaving: list[str], began_s: float) -> None:
        """mqtt.md: "each minute 20 refused topics are asked again with one alert each, as is a refused subscription";
        of those that end connections "one of those a minute"."""
        world, broker = self.world, self.world.broker
        if broker.ends or broker.has_been_silent:
            return
        waiting = {topic for topic, _ in world.waiting()}
        middle_s = began_s + MINUTE_S
        for topic in (topic for topic in misbehaving if topic in waiting and broker.rules[topic] is Rule.REFUSES):
            times = [m.mono_s for m in broker.published if m.topic == topic and m.mono_s > middle_s]
            minutes = (world.now - middle_s) / MINUTE_S
            assert minutes - 2 <= len(times) <= minutes + 2, (topic, times)

    def _ends_few_connections(self, misbehaving: list[str], began_s: float) -> None:
        """mqtt.md: the agent "takes for refused what ends two connections so, and asks one of those a minute"."""
        world = self.world
        ends = [mono_s for mono_s in world.broker.ends if mono_s > began_s]
        ending = [topic for topic in misbehaving if world.broker.rules[topic] in ENDING]
        minutes = (world.now - began_s) / MINUTE_S
        assert len(ends) <= 3 * len(ending) + minutes + 2, (ends, ending)

    def _repaired(self) -> None:
        """mqtt.md: refused topics are asked "and the others, one by one, once one is accepted"; what is given up is
        "told as dropped"; and, of each topic, who keeps the last event keeps the newest."""
        world, broker = self.world, self.world.broker
        broker.rules.clear()
        broker.lose_connection()
        world.let_pass(MINUTE_S * 4)
        assert world.client.state is ClientState.CONNECTED
        assert world.waiting() == []
        assert [*world.client.status.describe()["refused"]] in ([], [REJECTED])
        for topic, events in world.committed.items():
            last = {message.payload: number for number, message in enumerate(broker.taken) if message.topic == topic}
            taken = [payload for payload in events if payload in last]
            assert set(events) <= last.keys() | broker.never
            assert taken == sorted(taken, key=last.__getitem__)
        assert world.given_up_and_told() == world.journal.dropped
        self._forgives()

    def _forgives(self) -> None:
        """Whatever was held against a topic is gone once the broker has taken a message on it."""
        world = self.world
        for topic in ALERTS:
            world.add_events(topic, 1)
        world.let_pass(MINUTE_S + 2)
        assert world.waiting() == []
        assert {world.client._access.state(topic) for topic in ALERTS} <= {TopicState.OPEN, TopicState.PROVEN}


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=100, stateful_step_count=30, derandomize=True)


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    """Makes a world, and closes its journal after the test."""
    with ExitStack() as stack:

        def make(**options: bool) -> World:
            world = World(**options)
            stack.callback(world.journal.close)
            return world

        yield make


def test_a_silent_topic_and_one_that_ends_connections_hold_up_no_other(worlds: Callable[..., World]) -> None:
    """Nor for a minute again with each connection; the one that ends connections is asked each minute."""
    world = worlds(speaks_5=False)
    ending, silent, *others = ALERTS
    world.broker.rules |= {ending: Rule.ENDS, silent: Rule.SILENT}
    world.let_pass(2)
    world.add_events(ending, 1)
    world.let_pass(30)
    world.add_events(silent, 1)
    world.let_pass(100)
    world.add_events(ending, 1)
    ends = len(world.broker.ends)
    for _ in range(10):
        for topic in others:
            world.add_events(topic, 1)
        world.let_pass(MINUTE_S)
        assert {topic for topic, _ in world.waiting()} == {ending, silent}
    assert len(world.broker.ends) - ends in range(9, 12)


def test_health_that_ends_connections_is_found_out_beside_silent_alerts(worlds: Callable[..., World]) -> None:
    """The silent ones are always on their way when a connection ends, and have nothing to do with it."""
    world = worlds(speaks_5=False)
    world.broker.rules |= {ALERTS[0]: Rule.SILENT, ALERTS[1]: Rule.SILENT, HEALTH: Rule.ENDS}
    for topic in ALERTS[:2]:
        world.add_events(topic, 1)
    world.let_pass(10 * MINUTE_S)
    assert [*world.client.status.describe()["refused"]] == [HEALTH]


def test_hundreds_of_alerts_that_get_no_answer_hold_up_no_other(worlds: Callable[..., World]) -> None:
    """They take every place on the connection, so after their minute it is made anew."""
    world = worlds()
    world.broker.rules[ALERTS[0]] = Rule.SILENT
    world.add_events(ALERTS[0], 150)
    world.add_events(ALERTS[1], 1)
    world.let_pass(2 * MINUTE_S)
    assert {topic for topic, _ in world.waiting()} == {ALERTS[0]}
    assert len(world.broker.lines) == 2
    world.broker.rules[ALERTS[0]] = Rule.TAKES
    world.broker.lose_connection()
    world.let_pass(MINUTE_S)
    assert world.waiting() == []


def test_a_silent_topic_that_begins_to_end_connections_is_found_out_beside_other_silent_ones(
    worlds: Callable[..., World],
) -> None:
    """None of them is answered, so they go seconds apart; nothing else waits for that."""
    world = worlds(speaks_5=False)
    ending, *silent, good = ALERTS
    world.broker.rules |= dict.fromkeys([ending, *silent], Rule.SILENT)
    for topic in (ending, *silent):
        world.add_events(topic, 2)
    world.let_pass(100)
    world.broker.rules[ending] = Rule.ENDS
    world.broker.lose_connection()
    for _ in range(9):
        world.add_events(good, 1)
        world.let_pass(MINUTE_S)
        assert {topic for topic, _ in world.waiting()} == {ending, *silent}
    assert [*world.client.status.describe()["refused"]] == [ending]
    assert len(world.broker.ends) in range(9, 13)
