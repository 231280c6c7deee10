"""A broker that says exactly the bytes it is told to: for what a real one would refuse to pass on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["RawBroker", "acknowledge", "publish_packet"]

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _PINGREQ = 1, 3, 4, 8, 12
_MQTT_5 = 5


def _length(size: int) -> bytes:
    digits = b""
    while True:
        size, digit = divmod(size, 128)
        digits += bytes([digit | (128 if size else 0)])
        if not size:
            return digits


def publish_packet(topic: bytes, payload: bytes, mid: int, *, flags: int = 0, speaks_5: bool = True) -> bytes:
    """A PUBLISH at QoS 1, with any bytes as its topic; flags are 1 (a retained copy) and 8 (sent again)."""
    body = len(topic).to_bytes(2) + topic + mid.to_bytes(2) + b"\0" * speaks_5 + payload
    return bytes([0x32 | flags]) + _length(len(body)) + body


def acknowledge(_topic: bytes, mid: bytes) -> bytes:
    """The answer to a message at QoS 1."""
    return b"\x40\x02" + mid


class RawBroker:
    """Accepts one client at a time, answers what it must, and sends what `send` is given.

    Args:
        answer: makes the answer to a message at QoS 1 of its topic and identifier.
        port: where it listens; 0 for a free one.
        has_session: it says that it has kept the client's session.
    """

    def __init__(
        self,
        answer: Callable[[bytes, bytes], bytes] = acknowledge,
        *,
        port: int = 0,
        has_session: bool = False,
    ) -> None:
        self._answer_of = answer
        self.has_session = has_session
        """It says that it has kept the client's session."""
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.published: list[tuple[bytes, bytes]] = []
        """(topic, payload) of what came."""
        self.acks: list[int] = []
        """Identifiers of our messages that the client has acknowledged."""
        self.refuses_after_s: float | None = None
        """It refuses each connection for its password, after so long."""
        self.asked: list[int] = []
        """Version of MQTT in each CONNECT."""
        self.connections = 0
        self.speaks_5 = True
        """Whether the client's last connection is with MQTT 5, or else with 3.1.1."""
        self.subscribed = threading.Event()
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="raw-broker", daemon=True)

    @property
    def acknowledged(self) -> int:
        """How many of our messages the client has acknowledged."""
        return len(self.acks)

    def send(self, data: bytes) -> None:
        """To the client, as it is."""
        assert self._client is not None
        self._client.sendall(data)

    def __enter__(self) -> RawBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not end a wait in another thread.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._client, contextlib.suppress(OSError, IndexError):
                while True:
                    self._answer(*self._read_packet(self._client))

    def _read_packet(self, client: socket.socket) -> tuple[int, bytes]:
        first = self._read(client, 1)[0]
        size, shift = 0, 0
        while True:
            digit = self._read(client, 1)[0]
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return first, self._read(client, size)

    def _read(self, client: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = client.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data

    def _answer(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == _CONNECT:
            kept = bytes([self.has_session])
            self.speaks_5 = body[6] == _MQTT_5
            self.asked.append(body[6])
            if self.refuses_after_s is not None:
                time.sleep(self.refuses_after_s)
                self.send(b"\x20\x03\0\x86\0" if self.speaks_5 else b"\x20\x02\0\x04")
                raise ConnectionResetError
            self.send(b"\x20\x03" + kept + b"\0\0" if self.speaks_5 else b"\x20\x02" + kept + b"\0")
        elif kind == _SUBSCRIBE:
            rest = body[:2] + b"\0" * self.speaks_5 + b"\x01"
            self.send(bytes([0x90, len(rest)]) + rest)
            self.subscribed.set()
        elif kind == _PINGREQ:
            self.send(b"\xd0\0")
        elif kind == _PUBLISH:
            end = 2 + int.from_bytes(body[:2])
            at = end
            if first & 6:
                self.send(self._answer_of(body[2:end], body[end : end + 2]))
                at += 2
            # No property is expected, so their length is the one byte 0.
            self.published.append((body[2:end], body[at + self.speaks_5 :]))
        elif kind == _PUBACK:
            self.acks.append(int.from_bytes(body[:2]))
