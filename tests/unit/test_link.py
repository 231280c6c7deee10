"""One connection: what the broker says is understood, or ends the connection and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_broker import connected_paho
from fakes import FakeSocket
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.delivery import Delivery
from edge_agent.mqtt.link import Link
from edge_agent.mqtt.message import Answer, Message, Subscription
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import Reason

CONNACK_5 = b"\x20\x03\x00\x00\x00"
SUBACK_5 = b"\x90\x04\x00\x01\x00\x01"


def make_link(
    *,
    speaks_5: bool = True,
    access: TopicAccess | None = None,
    birth_topic: str = "status",
    subscriptions: list[Subscription] | None = None,
) -> tuple[Link, FakeSocket]:
    fake = FakeSocket([])
    client = connected_paho(fake, speaks_5=speaks_5)
    assert client.wire is not None
    link = Link(
        client,
        client.wire,
        subscriptions=subscriptions or [Subscription("sensors/+", 1)],
        former=["before/+"],
        birth=Message(birth_topic, b"online", 1, True),
        access=access or TopicAccess(),
        keepalive_s=30,
        answer_limit_s=10,
    )
    return link, fake


def hear(link: Link, fake: FakeSocket, *pieces: bytes) -> list[Delivery]:
    fake.pieces += pieces
    inbox: list[Delivery] = []
    while link.receive(inbox, 100) or (fake.pieces and link.trouble is None):
        pass
    link.flush()
    return inbox


def test_what_the_broker_accepts_begins_with_birth_and_subscriptions() -> None:
    """Nothing but CONNECT goes out before."""
    link, fake = make_link()
    assert fake.sent[0] == 0x10
    before = len(fake.sent)
    assert not link.can_publish()
    hear(link, fake, CONNACK_5)
    assert link.is_up
    assert fake.sent[before] == 0x82  # SUBSCRIBE
    assert b"sensors/+" in fake.sent[before:]


@pytest.mark.parametrize("code", [b"\x01", b"\x87"], ids=["granted", "refused"])
def test_the_birth_waits_for_the_answer_to_the_subscriptions(code: bytes) -> None:
    """Whoever reads `online` begins to send; a refused subscription is told elsewhere, and we are there."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5)
    link.beat(link.up_mono_s + 5, is_read=True)
    link.flush()
    assert b"online" not in fake.sent
    before = len(fake.sent)
    hear(link, fake, SUBACK_5[:-1] + code)
    assert fake.sent[before] == 0x33  # PUBLISH, QoS 1, retained
    assert b"online" in fake.sent[before:]


def test_a_broker_that_does_not_answer_the_subscriptions_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and never while something is unread: its answer is behind all that had waited."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5)
    for seconds, is_read, count in ((29, True, 0), (31, False, 0), (32, True, 1), (33, True, 1)):
        link.beat(link.up_mono_s + seconds, is_read=is_read)
        assert caplog.text.count("broker has not answered our subscriptions for 30 s") == count
    hear(link, fake, SUBACK_5)
    assert b"online" in fake.sent


def connack(*properties: bytes) -> bytes:
    """With properties."""
    body = b"".join(properties)
    return bytes([0x20, 3 + len(body), 0, 0, len(body)]) + body


@pytest.mark.parametrize(
    ("topic", "properties", "words"),
    [
        (
            "$share/g/a",
            b"\x2a\x00",
            "the broker has no shared subscriptions; take $share/GROUP/ off the stream's topic",
        ),
        (
            "sensors/+",
            b"\x28\x00",
            "the broker has no wildcard subscriptions; give a [[stream]] with its full topic for each asset",
        ),
        ("$share/g/a", b"\x28\x00\x29\x00", None),
        ("sensors/a1", b"\x28\x00\x2a\x00", None),
    ],
)
def test_what_the_broker_does_not_have_is_not_asked_for(topic: str, properties: bytes, words: str | None) -> None:
    """RabbitMQ 4 would grant it, and send nothing for ever; health says why, and the other topics are subscribed to."""
    access = TopicAccess()
    link, fake = make_link(access=access, subscriptions=[Subscription("other", 1), Subscription(topic, 1)])
    hear(link, fake, connack(properties), b"\x90\x05\x00\x01\x00\x01\x01")
    assert access.refused == ({} if words is None else {topic: words})
    assert (topic.encode() in fake.sent) == (words is None)
    assert b"other" in fake.sent
    assert b"online" in fake.sent


@pytest.mark.parametrize("code", [b"\x9e", b"\xa2"], ids=["shared", "wildcard"])
def test_a_subscription_is_refused_with_what_to_do(code: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The access rules, which other refusals are of, have nothing to do with it."""
    topic = "$share/g/+"
    link, fake = make_link(subscriptions=[Subscription(topic, 1)])
    hear(link, fake, CONNACK_5, SUBACK_5[:-1] + code)
    assert "access rules" not in caplog.text
    assert ("take $share/GROUP/ off" if code == b"\x9e" else "give a [[stream]]") in caplog.text


def test_a_broker_without_qos_1_is_no_broker_for_alerts() -> None:
    """It would end the connection at the first."""
    link, fake = make_link()
    hear(link, fake, connack(b"\x24\x00"))
    assert link.trouble is not None
    assert (link.trouble.reason, link.trouble.is_permanent) == (Reason.QOS, True)


def test_a_broker_without_retained_messages_gets_none() -> None:
    """It would end the connection at the birth."""
    link, fake = make_link()
    before = len(fake.sent)
    hear(link, fake, connack(b"\x25\x00"), SUBACK_5)
    assert b"online" in fake.sent[before:]
    assert b"\x33" not in fake.sent[before:]
    assert link.granted.remarks == ["broker keeps no retained messages, who comes later does not see status and health"]


def test_every_limit_of_the_broker_is_told() -> None:
    """As health shows them."""
    link, fake = make_link()
    limits = (b"\x11\0\0\x0e\x10", b"\x21\0\x14", b"\x24\x01", b"\x25\x01", b"\x27\0\x01\0\0", b"\x22\0\x0a")
    hear(link, fake, connack(*limits, b"\x28\x01", b"\x29\x00", b"\x2a\x01", b"\x13\0\x14"))
    assert link.granted.describe() == {
        "packet_bytes": 65536,
        "in_flight": 20,
        "qos": 1,
        "retains": True,
        "wildcards": True,
        "shared_subscriptions": True,
        "subscription_identifiers": False,
        "topic_aliases": 10,
        "keepalive_s": 20,
        "session_s": 3600,
    }
    assert link.granted.remarks == ["broker keeps readings for 3600 s only while the agent is away"]


@pytest.mark.parametrize(
    ("packet", "reason", "answered"),
    [
        (b"\x20\x03\x00\x87\x00", Reason.NOT_AUTHORISED, True),
        (b"\x20\x03\x00\x86\x00", Reason.BAD_CREDENTIALS, True),
        (b"\x20\x03\x00\x8a\x00", Reason.BANNED, True),
        (b"\x20\x02\x00\x01", Reason.PROTOCOL, False),
        (b"\x20\x03\x00\x84\x00", Reason.PROTOCOL, False),
    ],
)
def test_a_refusal_ends_the_connection_with_its_reason(packet: bytes, reason: Reason, answered: bool) -> None:
    """And says whether the broker understood the protocol."""
    link, fake = make_link()
    hear(link, fake, packet)
    assert link.trouble is not None
    assert (link.trouble.reason, link.was_answered, link.is_up) == (reason, answered, False)


def test_a_refusal_of_the_older_protocol_has_the_same_reasons() -> None:
    """Return code 5 is: not authorised."""
    link, fake = make_link(speaks_5=False)
    hear(link, fake, b"\x20\x02\x00\x05")
    assert link.trouble is not None
    assert link.trouble.reason is Reason.NOT_AUTHORISED


def test_a_disconnect_of_the_broker_is_told_with_its_reason() -> None:
    """Another client has come with our identifier."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5, b"\xe0\x02\x8e\x00")
    assert link.trouble is not None
    assert link.trouble.reason is Reason.TAKEN_OVER


def test_a_refused_message_is_no_acknowledged_one() -> None:
    """It is told, and messages pause; the pause outlives the connection."""
    access = TopicAccess()
    link, fake = make_link(access=access)
    hear(link, fake, CONNACK_5)
    mid = link.publish(Message("alerts/a1", b"{}", 1))
    assert mid is not None
    hear(link, fake, b"\x40\x04" + mid.to_bytes(2) + b"\x87\x00")
    assert link.answers() == [(mid, Answer.AGAIN)]
    assert access.refused == {"alerts/a1": "not authorized"}
    assert link.can_publish()
    assert access.may_publish("alerts/a2")
    assert not access.may_publish("alerts/a1")
    assert access.is_time_to_ask(float("inf"))
    assert access.may_publish("alerts/a1")
    again, other = make_link(access=access)
    hear(again, other, CONNACK_5)
    assert again.publish(Message("alerts/a1", b"{}", 1)) is not None
    assert not access.may_publish("alerts/a1")


def test_what_overtook_a_refused_message_goes_again_behind_it() -> None:
    """A broker may refuse one message of many, for its rate; who keeps the last state would keep one of long ago."""
    access = TopicAccess()
    link, fake = make_link(access=access)
    hear(link, fake, CONNACK_5)
    topics = ("alerts/a1", "alerts/a2", "alerts/a1")
    mids = [link.publish(Message(topic, b"{}", 1)) or 0 for topic in topics]
    for mid, code in zip(mids, (b"\x97", b"\x00", b"\x00"), strict=True):
        hear(link, fake, b"\x40\x04" + mid.to_bytes(2) + code + b"\x00")
    assert [answer for _, answer in link.answers()] == [Answer.AGAIN, Answer.TAKEN, Answer.AGAIN]
    assert access.may_publish("alerts/a1")
    # From now on one waits for the other, until the broker has shown that it takes them.
    for _ in range(19):
        mid = link.publish(Message("alerts/a1", b"{}", 1)) or 0
        assert not link.has_turn("alerts/a1")
        hear(link, fake, b"\x40\x02" + mid.to_bytes(2))
        assert link.has_turn("alerts/a1")
    link.publish(Message("alerts/a1", b"{}", 1))
    assert link.has_turn("alerts/a1")


def test_health_may_be_what_ends_a_connection() -> None:
    """There is no answer at QoS 0, so it is suspected until the connection has lasted."""
    access = TopicAccess()
    for _ in range(2):
        link, fake = make_link(access=access)
        hear(link, fake, CONNACK_5, SUBACK_5, b"\x40\x02\x00\x02")
        assert link.publish(Message("health", b"{}")) is not None
        assert [*link.untold] == ["health"]
        access.ended(link.unanswered, link.untold)
    assert access.refused == {"health": "the broker ends the connection"}
    link, fake = make_link(access=access)
    hear(link, fake, CONNACK_5, SUBACK_5, b"\x40\x02\x00\x02")
    assert link.publish(Message("health", b"{}")) is None
    link.beat(link.up_mono_s + 100, is_read=True)
    assert link.publish(Message("health", b"{}")) is not None
    link.beat(link.up_mono_s + 3, is_read=True)
    assert not access.may_publish("health")
    link.beat(link.up_mono_s + 7, is_read=True)
    assert not link.untold
    assert access.refused == {}


def test_a_goodbye_waits_for_no_answer() -> None:
    """Else the clean end of the connection would take back the will, and `online` would stay."""
    access = TopicAccess()
    access.ended(["alerts/a1", "alerts/a2"])
    link, fake = make_link(access=access)
    hear(link, fake, CONNACK_5)
    before = len(fake.sent)
    link.say_goodbye(Message("status", b"offline", 1, True))
    assert fake.sent[before:].endswith(b"offline\xe0\x00")


def test_a_refused_subscription_is_told_and_asked_for_again() -> None:
    """After a minute, and it is forgotten when the broker accepts it."""
    access = TopicAccess()
    link, fake = make_link(access=access)
    hear(link, fake, CONNACK_5, b"\x90\x04\x00\x01\x00\x87")
    assert access.refused == {"sensors/+": "not authorized"}
    assert link.can_publish()
    before = len(fake.sent)
    link.beat(link.up_mono_s + 50, is_read=True)
    link.flush()
    assert b"sensors/+" not in fake.sent[before:]
    link.beat(link.up_mono_s + 70, is_read=True)
    link.flush()
    assert b"sensors/+" in fake.sent[before:]
    hear(link, fake, b"\x90\x04\x00\x03\x00\x01")
    assert access.refused == {}


def test_a_message_that_no_broker_would_take_is_given_up() -> None:
    """Its topic is invalid, today and tomorrow."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5)
    mid = link.publish(Message("alerts/a1", b"{}", 1))
    assert mid is not None
    hear(link, fake, b"\x40\x04" + mid.to_bytes(2) + b"\x90\x00")
    assert link.answers() == [(mid, Answer.NEVER)]
    assert link.can_publish()


def test_what_an_earlier_run_subscribed_to_is_ended() -> None:
    """Where the broker has kept our session; a new one has nothing of it."""
    for session_present in (0, 1):
        link, fake = make_link()
        hear(link, fake, bytes([0x20, 3, session_present, 0, 0]))
        assert (b"before/+" in fake.sent) == bool(session_present)


def test_a_message_is_no_larger_than_the_broker_takes(caplog: pytest.LogCaptureFixture) -> None:
    """It would end the connection, and the next one, and so on; exactly what fits goes."""
    link, fake = make_link()
    hear(link, fake, b"\x20\x08\x00\x00\x05\x27\x00\x00\x00\x64")  # at most 100 bytes
    room = link.room_for("topic")
    before = len(fake.sent)
    assert link.publish(Message("topic", b"x" * room, qos=1)) is not None
    link.flush()
    assert before < len(fake.sent) <= before + 100
    assert [link.publish(Message("topic", b"x" * (room + 1), qos=qos)) for qos in (0, 1, 0)] == [None] * 3
    assert caplog.text.count("the broker takes none so large") == 1


def test_no_more_is_in_flight_than_the_broker_takes() -> None:
    """Its receive maximum: it would end the connection."""
    link, fake = make_link()
    hear(link, fake, b"\x20\x06\x00\x00\x03\x21\x00\x05", SUBACK_5)  # five
    sent = 0
    while link.can_publish():
        assert link.publish(Message("t", b"x", qos=1)) is not None
        sent += 1
    assert sent == 4  # and the birth


def test_a_subscription_at_a_lower_quality_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The broker may grant less than was asked for; readings get lost then."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5, b"\x90\x04\x00\x01\x00\x00")
    assert "broker sends at QoS 0 only, readings may be lost topic=sensors/+ qos=1" in caplog.text


def test_what_is_written_is_bounded_when_the_broker_reads_nothing() -> None:
    """Health is left out, events stay in the journal."""
    link, fake = make_link()
    hear(link, fake, CONNACK_5)
    fake.blocked = True
    big = Message("health", bytes(100_000))
    handed_over = 0
    while link.publish(big) is not None:
        link.flush()
        handed_over += 1
        assert handed_over < 10
    assert handed_over == 3
    assert not link.can_publish()
    fake.blocked = False
    link.flush()
    assert link.can_publish()


def test_a_broker_that_does_not_answer_or_goes_silent_is_given_up() -> None:
    """First within the limit for its answer, then within the keep-alive."""
    link, _ = make_link()
    link.beat(float("inf"), is_read=True)
    assert link.trouble is not None
    assert link.trouble.reason is Reason.NO_ANSWER


def test_the_keepalive_that_the_broker_asks_for_counts() -> None:
    """MQTT 5: it may want to hear from us more often."""
    link, fake = make_link()
    hear(link, fake, b"\x20\x06\x00\x00\x03\x13\x00\x08")
    seconds = 0
    while link.trouble is None:
        seconds += 1
        link.beat(link.up_mono_s + seconds, is_read=True)
    assert link.trouble.reason is Reason.SILENT
    assert seconds in (8, 9)  # the CONNACK itself was a sign of life
    link.flush()


def test_an_exception_inside_paho_ends_the_connection_and_not_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    """Here our own birth has a topic that MQTT cannot carry."""
    link, fake = make_link(birth_topic="x" * 70_000)
    hear(link, fake, CONNACK_5, SUBACK_5)
    assert link.trouble is not None
    assert "ValueError" in link.trouble.detail
    assert "paho cannot handle" in caplog.text


def fuzzed(feed: Callable[[Link, FakeSocket], object], *, speaks_5: bool) -> None:
    link, fake = make_link(speaks_5=speaks_5)
    feed(link, fake)
    link.flush()
    link.beat(0.0, is_read=True)
    link.close()


@given(st.booleans(), st.booleans(), st.lists(st.binary(max_size=60), max_size=6))
def test_whatever_a_broker_sends_ends_the_connection_at_most(
    speaks_5: bool, accepted: bool, pieces: list[bytes]
) -> None:
    """No exception leaves the link."""
    connack = (CONNACK_5 if speaks_5 else b"\x20\x02\x00\x00") if accepted else b""
    fuzzed(lambda link, fake: hear(link, fake, *filter(None, [connack, *pieces])), speaks_5=speaks_5)


@given(st.booleans(), st.integers(1, 15), st.integers(0, 15), st.binary(max_size=40))
def test_whatever_packet_a_broker_sends_ends_the_connection_at_most(
    speaks_5: bool, kind: int, flags: int, body: bytes
) -> None:
    """Packets that are whole, with any content."""
    packet = bytes([kind << 4 | flags, len(body)]) + body
    connack = CONNACK_5 if speaks_5 else b"\x20\x02\x00\x00"
    fuzzed(lambda link, fake: hear(link, fake, connack, packet), speaks_5=speaks_5)
