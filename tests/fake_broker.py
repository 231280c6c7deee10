"""A broker without sockets, which reads what a client writes and answers by a rule for each topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from fakes import FakeSocket
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.enums import MQTTProtocolVersion as Version

from edge_agent.mqtt.address import Address
from edge_agent.mqtt.message import Message
from edge_agent.mqtt.opening import IN_FLIGHT_LIMIT, PahoClient
from edge_agent.mqtt.trouble import Reason, Trouble
from edge_agent.mqtt.wire import WireSocket

__all__ = ["ConnectedPaho", "FakeBroker", "FakeOpener", "Published", "Rule", "connected_paho"]

_CONNECT, _PUBLISH, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 8, 12, 14
_MQTT_5 = 5


class ConnectedPaho(PahoClient):
    """On a socket that the test feeds."""

    fake: FakeSocket | _Line

    def _create_socket(self) -> WireSocket:
        self.wire = WireSocket(self.fake, has_properties=self.speaks_5)  # type: ignore[arg-type]
        return self.wire


def connected_paho(fake: FakeSocket | _Line, *, speaks_5: bool) -> ConnectedPaho:
    """A client whose CONNECT is not sent yet."""
    version = Version.MQTTv5 if speaks_5 else Version.MQTTv311
    clean = None if speaks_5 else False
    client = ConnectedPaho(CallbackAPIVersion.VERSION2, "g1", clean_session=clean, protocol=version)
    client.speaks_5 = speaks_5
    client.fake = fake
    client.on_socket_register_write = lambda *_: None
    client.max_inflight_messages_set(IN_FLIGHT_LIMIT + 1)
    client.connect("broker")
    return client


class Rule(Enum):
    """What a broker does with messages on a topic."""

    TAKES = auto()
    REFUSES = auto()
    """Answers that we are not authorised."""
    NEVER = auto()
    """Answers that the topic's name is invalid."""
    REFUSES_AND_ENDS = auto()
    """Answers, and ends the connection, as mosquitto 2.0.11."""
    ENDS = auto()
    """Ends the connection without a word; what it had answered before gets lost."""
    DISCONNECTS = auto()
    """Ends the connection and says: not authorised."""
    SILENT = auto()
    """Answers nothing, also to later messages on this connection: answers come in order."""


class Published(NamedTuple):
    """A message that reached the broker."""

    mono_s: float
    connection: int
    topic: str
    payload: bytes
    qos: int


class _Line:
    """One connection, seen by the client as its socket."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.to_client: list[tuple[bytes, bytes | None]] = []
        """Packets, each with the payload that it acknowledges."""
        self.from_client = bytearray()
        self.is_ended = False
        self.silent: set[str] = set()
        self.subscriptions: list[tuple[str, int]] = []
        self.published: list[str] = []

    def fileno(self) -> int:
        return -1

    def recv(self, size: int) -> bytes:
        data = b""
        while self.to_client and len(data) + len(self.to_client[0][0]) <= size:
            packet, acknowledged = self.to_client.pop(0)
            data += packet
            if acknowledged is not None:
                self._broker.acknowledged.add(acknowledged)
        if data:
            return data
        if self.is_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        if self.is_ended:
            raise ConnectionResetError(104, "Connection reset by peer")
        self.from_client += data
        self._broker.work()
        return len(data)

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def close(self) -> None:
        self.end()

    def end(self, *, lose_answers: bool = False) -> None:
        """Nothing more comes, and nothing more is taken."""
        self.is_ended = True
        self.from_client.clear()
        if lose_answers:
            self.to_client.clear()


class FakeBroker:
    """Takes one connection after the other.

    Args:
        clock: gives now.
        speaks_5: MQTT 5, or else 3.1.1, which has no refusal of a message.
    """

    def __init__(self, clock: Callable[[], float], *, speaks_5: bool) -> None:
        self._clock = clock
        self.speaks_5 = speaks_5
        self.rules: defaultdict[str, Rule] = defaultdict(lambda: Rule.TAKES)
        """By topic; of a topic filter, TAKES or REFUSES."""
        self.is_away = False
        self.refusal = 0
        """Code with which it refuses every connection; 0 for none."""
        self.has_session = False
        """It says that it has kept our session."""
        self.is_paused = False
        """It takes bytes and looks at none."""
        self.lines: list[_Line] = []
        self.published: list[Published] = []
        """What reached it, in order, whatever it did with that."""
        self.taken: list[Published] = []
        """What it will pass on, in order."""
        self.acknowledged: set[bytes] = set()
        """Payloads of which the client has read an acknowledgement."""
        self.never: set[bytes] = set()
        """Payloads that it said it never takes."""
        self.has_been_silent = False
        """It has left a message without an answer."""
        self.ends: list[float] = []
        """When it ended a connection for a message."""

    def open(self) -> _Line:
        """A client connects."""
        self.lines.append(_Line(self))
        return self.lines[-1]

    def lose_connection(self) -> None:
        """A cable is pulled: what was on its way to the client is lost."""
        if self.lines:
            self.lines[-1].end(lose_answers=True)

    def work(self) -> None:
        """Look at what has come."""
        while not self.is_paused and self.lines:
            line = self.lines[-1]
            packet = _cut_packet(line.from_client)
            if packet is None or line.is_ended:
                return
            self._answer(line, *packet)

    def _answer(self, line: _Line, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == _CONNECT:
            self._accept(line, body[6])
        elif kind == _SUBSCRIBE:
            at = 3 if self.speaks_5 else 2
            size = int.from_bytes(body[at : at + 2])
            topic, qos = body[at + 2 : at + 2 + size].decode(), body[at + 2 + size] & 3
            line.subscriptions.append((topic, qos))
            code = qos if self.rules[topic] is Rule.TAKES else 0x87 if self.speaks_5 else 0x80
            rest = body[:2] + (bytes([0, code]) if self.speaks_5 else bytes([code]))
            line.to_client.append((bytes([0x90, len(rest)]) + rest, None))
        elif kind == _PINGREQ:
            line.to_client.append((b"\xd0\0", None))
        elif kind == _DISCONNECT:
            line.end()
        elif kind == _PUBLISH:
            self._take(line, first, body)

    def _accept(self, line: _Line, level: int) -> None:
        code = 1 if level == _MQTT_5 and not self.speaks_5 else self.refusal
        flags = bytes([self.has_session and not code, code])
        line.to_client.append((b"\x20\x03" + flags + b"\0" if self.speaks_5 else b"\x20\x02" + flags, None))
        if code:
            line.is_ended = True

    def _take(self, line: _Line, first: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2])
        topic, qos = body[2:end].decode(), first >> 1 & 3
        mid = body[end : end + 2] if qos else b""
        at = end + len(mid)
        message = Published(self._clock(), len(self.lines), topic, body[at + 1 if self.speaks_5 else at :], qos)
        self.published.append(message)
        line.published.append(topic)
        rule = Rule.SILENT if topic in line.silent else self.rules[topic]
        if rule in {Rule.ENDS, Rule.DISCONNECTS, Rule.REFUSES_AND_ENDS}:
            if rule is Rule.REFUSES_AND_ENDS and mid:
                line.to_client.append((b"\x40\x04" + mid + b"\x87\0", None))
            elif rule is Rule.DISCONNECTS:
                line.to_client.append((b"\xe0\x02\x87\0", None))
            self.ends.append(message.mono_s)
            line.end(lose_answers=rule is Rule.ENDS)
        elif rule is Rule.SILENT and qos:
            line.silent.add(topic)
            self.has_been_silent = True
        elif rule is Rule.TAKES or not qos:
            if rule is Rule.TAKES:
                self.taken.append(message)
            if qos:
                line.to_client.append((b"\x40\x02" + mid, message.payload))
        else:
            line.to_client.append((b"\x40\x04" + mid + (b"\x90\0" if rule is Rule.NEVER else b"\x87\0"), None))
            if rule is Rule.NEVER:
                self.never.add(message.payload)


class FakeOpener:
    """Attempts to reach a `FakeBroker` succeed or fail at once.

    Args:
        broker: the broker.
        others: by host, those that are there besides.
    """

    keeps_session = True

    def __init__(self, broker: FakeBroker, others: Mapping[str, FakeBroker] | None = None) -> None:
        self._broker = broker
        self._others = others or {}
        self._result: PahoClient | Trouble | None = None
        self.is_busy = False
        self.files_are_new = False
        self.attempts: list[tuple[float, str]] = []
        """When each began, and at which host."""

    def begin(self, now_mono_s: float, address: Address, *, speaks_5: bool, will: Message | None) -> None:
        """See `Opener.begin`."""
        del will
        self.attempts.append((now_mono_s, address.host))
        self.files_are_new = False
        broker = self._others.get(address.host, self._broker)
        if broker.is_away:
            self._result = Trouble(Reason.UNREACHABLE, "connection refused")
        else:
            self._result = connected_paho(broker.open(), speaks_5=speaks_5)

    def result(self) -> PahoClient | Trouble | None:
        """See `Opener.result`."""
        result, self._result = self._result, None
        return result

    def tick(self, now_mono_s: float) -> None:
        """See `Opener.tick`."""

    def has_new_files(self, _now_mono_s: float) -> bool:
        """See `Opener.has_new_files`."""
        return self.files_are_new

    def has_new_certificates(self, _now_mono_s: float) -> bool:
        """See `Opener.has_new_certificates`."""
        return False

    def close(self) -> None:
        """See `Opener.close`."""


def _cut_packet(buffer: bytearray) -> tuple[int, bytes] | None:
    """First byte and content of the first packet in a buffer, which loses it; None where there is no whole one."""
    size, shift, at = 0, 0, 1
    while True:
        if at >= len(buffer):
            return None
        digit = buffer[at]
        size |= (digit & 127) << shift
        shift, at = shift + 7, at + 1
        if digit < 128:
            break
    if len(buffer) < at + size:
        return None
    packet = buffer[0], bytes(buffer[at : at + size])
    del buffer[: at + size]
    return packet
