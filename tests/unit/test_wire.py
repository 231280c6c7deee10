"""Readings are taken out of the packet stream whole and in order, and paho gets every other packet."""

from __future__ import annotations

import contextlib

import pytest
from fakes import FakeSocket
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED, Topic
from edge_agent.mqtt.wire import PAYLOAD_KEPT_BYTES, WireError, WireSocket

PINGRESP = b"\xd0\x00"
SUBACK = b"\x90\x03\x00\x01\x01"


def publish(
    topic: str, payload: bytes, mid: int = 0, *, again: bool = False, retain: bool = False, qos: int = 1
) -> bytes:
    qos = qos if mid else 0
    body = len(topic.encode()).to_bytes(2) + topic.encode() + (mid.to_bytes(2) if qos else b"") + payload
    length, digits = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (128 if length else 0)])
        if not length:
            break
    return bytes([0x30 | again << 3 | qos << 1 | retain]) + digits + body


def contents(deliveries: list[Delivery]) -> list[tuple[str, bytes, int, bool]]:
    """What was delivered, whichever object stands for the topic."""
    return [(one.topic.name, one.payload, one.mid, one.redelivered) for one in deliveries]


def take_all(wire: WireSocket, limit: int = 1000) -> tuple[list[Delivery], list[bytes]]:
    controls: list[bytes] = []
    inbox: list[Delivery] = []

    def on_control() -> bool:
        controls.append(wire.recv(1) + wire.recv(1000))
        return True

    while wire.take(inbox, limit, on_control) or wire.pieces:
        pass
    return inbox, controls


def test_large_messages_are_taken_few_at_a_time() -> None:
    """Each may hold thousands of readings: what is taken at once is bounded by bytes too, and no message is left."""
    sent = [publish("t", bytes([number]) * 100_000, number + 1) for number in range(40)]
    wire = WireSocket(FakeSocket([b"".join(sent)]))  # type: ignore[arg-type]
    sizes, found = [], list[Delivery]()
    more = True
    while more:
        inbox: list[Delivery] = []
        more = wire.take(inbox, 1000, lambda: True)
        sizes.append(len(inbox))
        found += inbox
    assert [delivery.mid for delivery in found] == list(range(1, 41))
    assert max(sizes) <= 4


packets = st.lists(
    st.one_of(
        st.builds(
            lambda topic, payload, mid, again: (
                publish(topic, payload, mid, again=again),
                (topic, payload, mid, again),
            ),
            st.text(min_size=1, max_size=5),
            st.binary(max_size=300),
            st.integers(0, 65535),
            st.booleans(),
        ),
        st.sampled_from([(PINGRESP, None), (SUBACK, None)]),
    ),
    max_size=12,
)


@given(packets, st.lists(st.integers(1, 200), max_size=20))
def test_however_the_bytes_arrive_the_packets_are_the_same(
    sent: list[tuple[bytes, tuple[str, bytes, int, bool] | None]], cuts: list[int]
) -> None:
    """In order, with nothing lost between two reads."""
    stream = b"".join(raw for raw, _ in sent)
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    wire = WireSocket(FakeSocket([piece for piece in [*pieces, stream] if piece]))  # type: ignore[arg-type]
    inbox, controls = take_all(wire)
    assert contents(inbox) == [delivery for _, delivery in sent if delivery is not None]
    assert controls == [raw for raw, delivery in sent if delivery is None]


def test_no_more_than_the_limit_is_taken() -> None:
    """The rest waits, and the caller knows that there is more."""
    wire = WireSocket(FakeSocket([publish("t", b"1", 1) + publish("t", b"2", 2) + publish("t", b"3", 3)]))  # type: ignore[arg-type]
    inbox: list[Delivery] = []
    assert wire.take(inbox, 2, lambda: True)
    assert [delivery.payload for delivery in inbox] == [b"1", b"2"]
    inbox.clear()
    assert not wire.take(inbox, 2, lambda: True)
    assert [delivery.payload for delivery in inbox] == [b"3"]


def test_a_plain_socket_that_gave_less_than_it_might_is_not_asked_again() -> None:
    """That would be a call to the kernel for nothing at each reading; a TLS socket gives a piece at a time."""

    class Layered(FakeSocket):
        def pending(self) -> int:
            return 0

    for kind, expected in ((FakeSocket, [b"1"]), (Layered, [b"1", b"2"])):
        wire = WireSocket(kind([publish("t", b"1", 1), publish("t", b"2", 2)]))  # type: ignore[arg-type]
        inbox: list[Delivery] = []
        assert not wire.take(inbox, 10, lambda: True)
        assert [delivery.payload for delivery in inbox] == expected
        wire.take(inbox, 10, lambda: True)
        assert [delivery.payload for delivery in inbox] == [b"1", b"2"]


def test_a_socket_is_read_again_after_the_limit_was_reached() -> None:
    """A read that gave less than it might says nothing about what has come since."""
    wire = WireSocket(FakeSocket([publish("t", b"1", 1), PINGRESP]))  # type: ignore[arg-type]
    inbox: list[Delivery] = []
    assert wire.take(inbox, 1, lambda: True)
    heard: list[bytes] = []
    wire.take([], 10, lambda: not heard.append(wire.recv(10)))  # type: ignore[func-returns-value]
    assert heard == [PINGRESP]


def test_a_topic_is_one_object_over_connections() -> None:
    """What was found out about it stays."""
    first = WireSocket(FakeSocket([publish("t", b"1", 1) + publish("t", b"2", 2)]))  # type: ignore[arg-type]
    before, _ = take_all(first)
    second = WireSocket(FakeSocket([publish("t", b"3", 1)]))  # type: ignore[arg-type]
    second.topics = first.topics
    after, _ = take_all(second)
    assert before[0].topic is before[1].topic is after[0].topic


def test_acknowledgements_keep_the_order_and_survive_a_full_socket() -> None:
    """MQTT wants them in order of arrival; QoS 0 has none."""
    socket = FakeSocket([], takes=3)
    wire = WireSocket(socket)  # type: ignore[arg-type]
    wire.acknowledge([Delivery(Topic(b"t"), b"", mid, False) for mid in (5, 0, 258)])
    socket.blocked = True
    wire.flush()
    assert wire.unsent
    socket.blocked = False
    wire.flush()
    assert bytes(socket.sent) == b"\x40\x02\x00\x05\x40\x02\x01\x02"
    assert not wire.unsent


@pytest.mark.parametrize("five", [False, True])
def test_a_retained_copy_is_acknowledged_in_its_turn_and_is_no_reading(five: bool) -> None:
    """It is of unknown age. PUBACKs go in the order of the messages [MQTT-4.6.0-2], so it waits for those before it."""
    empty = "\0" if five else ""  # no properties
    packets = [("t", b"1", 1, False), ("t", b"old", 2, True), ("t", b"older", 0, True), ("t", b"3", 3, False)]
    sent = b"".join(publish(topic, empty.encode() + body, mid, retain=old) for topic, body, mid, old in packets)
    wire = WireSocket(FakeSocket([sent]), has_properties=five)  # type: ignore[arg-type]
    inbox, _ = take_all(wire)
    assert not wire.unsent
    assert [(one.mid, one.payload) for one in inbox] == [(1, b"1"), (2, b""), (3, b"3")]
    assert [one.topic is RETAINED for one in inbox] == [False, True, False]
    wire.acknowledge(inbox)
    assert bytes(wire.unsent) == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x00\x03"


def test_a_retained_copy_of_an_announcement_is_passed_on() -> None:
    """What readings mean is no older than when it was said; readings beside it are left out."""
    sent = publish("names", b"said", 1, retain=True) + publish("t", b"old", 2, retain=True)
    wire = WireSocket(FakeSocket([sent]))  # type: ignore[arg-type]
    wire.wants_retained = lambda topic: topic == b"names"
    inbox, _ = take_all(wire)
    assert [(one.topic.raw, one.payload) for one in inbox] == [(b"names", b"said"), (b"", b"")]


def test_a_payload_far_too_large_costs_no_memory() -> None:
    """Its head is delivered, so that it is counted and acknowledged; what follows it is read."""
    huge = publish("t", b"x" * 50_000_000, 1)
    socket = FakeSocket([huge + publish("t", b"next", 2)])
    wire = WireSocket(socket)  # type: ignore[arg-type]
    inbox, _ = take_all(wire)
    assert [delivery.mid for delivery in inbox] == [1, 2]
    assert PAYLOAD_KEPT_BYTES <= len(inbox[0].payload) < 2 * PAYLOAD_KEPT_BYTES
    assert inbox[1].payload == b"next"


def test_the_properties_of_mqtt_5_are_skipped() -> None:
    """A PUBLISH with none, with a few, and with more than 127 bytes of them."""
    packets = b""
    for mid, properties in enumerate((b"", b"\x01\x01", b"\x26\x00\x01a\x00\xc8" + b"v" * 200), start=1):
        length = bytes([len(properties)]) if len(properties) < 128 else bytes([len(properties) & 127 | 128, 1])
        body = b"\x00\x01t" + mid.to_bytes(2) + length + properties + b"payload"
        size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
        packets += b"\x32" + size + body
    wire = WireSocket(FakeSocket([packets]), has_properties=True)  # type: ignore[arg-type]
    inbox, _ = take_all(wire)
    assert contents(inbox) == [("t", b"payload", mid, False) for mid in (1, 2, 3)]


@given(st.binary(max_size=80))
def test_no_properties_end_the_agent(content: bytes) -> None:
    """Whatever stands in a PUBLISH of MQTT 5."""
    wire = WireSocket(FakeSocket([b"\x32" + bytes([len(content)]) + content]), has_properties=True)  # type: ignore[arg-type]
    with contextlib.suppress(WireError):
        take_all(wire)


@pytest.mark.parametrize("stream", [b"", b"\x30\xff\xff\xff\xff\x01", b"\x32\x03\x00\x05t"])
def test_an_end_and_nonsense_are_errors(stream: bytes) -> None:
    """A closed connection, an impossible length, a packet too short for its topic."""
    wire = WireSocket(FakeSocket([stream]))  # type: ignore[arg-type]
    with pytest.raises(WireError):
        take_all(wire)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=10))
def test_no_bytes_end_the_agent(pieces: list[bytes]) -> None:
    """Whatever a broken broker sends is packets, or an error that the connection ends with."""
    wire = WireSocket(FakeSocket(pieces))  # type: ignore[arg-type]
    with contextlib.suppress(WireError, BlockingIOError):
        take_all(wire)
