"""The socket between paho and the broker, which takes readings out of the stream of packets before paho sees them.

paho 2.2 spends 11 to 15 us on every message it receives: three reads from the socket, a message object with a lock in
it, a search for callbacks. Readings are nearly all that an agent receives, so PUBLISH packets at QoS 0 and 1 are taken
apart here, and acknowledged here, in about 1 us. Everything else (connecting, subscribing, keep-alive, what we
publish) is paho's: it gets those packets as if they were all there is. Figures: docs/benchmarks.md.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import RETAINED, Topics
from edge_agent.mqtt.trouble import CLOSED_SILENTLY

__all__ = ["PAYLOAD_KEPT_BYTES", "WireError", "WireSocket"]

PAYLOAD_KEPT_BYTES = (1 << 20) + 1
"""Of a larger payload only this much is kept, which is enough to know that the payload is too large."""

_READ_BYTES = 65536
_TAKEN_BYTES = 4 * _READ_BYTES
"""How much one call reads, beyond one message: a message may hold thousands of readings, which take more memory than
their text."""
_PUBLISH = 3
_QOS_2 = 4
_PUBACK = struct.Struct(">BBH")
_PINGREQ = b"\xc0\x00"
_LENGTH_DIGITS = 4


class WireError(OSError):
    """The broker closed the connection, or what it sends is not MQTT."""


class WireSocket:
    """Stands in for the socket of a paho client.

    Args:
        inner: a connected socket that does not block: plain, TLS, or paho's websocket around either.
        has_properties: whether MQTT 5 is spoken, in which a PUBLISH has properties before its payload.
    """

    def __init__(self, inner: socket.socket, *, has_properties: bool = False) -> None:
        self._inner = inner
        self._has_properties = has_properties
        self._buffer = b""
        self._at = 0
        self._skip = 0
        self._for_paho = b""
        self._is_drained = False
        self._read_bytes = 0
        self._pending: Callable[[], int] | None = getattr(inner, "pending", None)
        self.topics = Topics()
        """The topics seen so far, with what was found out about each; they are handed on to the next connection."""
        self.wants_retained: Callable[[bytes], bool] = lambda _: False
        """Whether a retained copy on a topic is passed on as any message; of most topics it is not."""
        self.unsent = bytearray()
        """Bytes that `flush` has not written yet; for others to look at only."""
        self.is_full = False
        """True while the kernel takes no more bytes, because the broker reads none."""
        self.heard = False
        """True if bytes came, or the broker made room for ours, since a reader of this flag cleared it."""

    # Our side --------------------------------------------------------------------------------------------------

    def take(self, inbox: list[Delivery], limit: int, on_control: Callable[[], bool]) -> bool:
        """Move readings that have arrived into `inbox`, until it holds `limit` or there is nothing more.

        Args:
            inbox: gets the readings, in order of arrival.
            limit: bound on its length.
            on_control: makes paho read one packet; returns False when the connection is given up.

        Returns:
            Whether there may be more now.

        Raises:
            OSError: the connection is gone, or what arrives is not MQTT.
        """
        self._is_drained = False
        started = self._read_bytes
        while True:
            while self._at < len(self._buffer) and len(inbox) < limit:
                packet = self._next_packet()
                if packet is None:
                    break
                first, start, stop = packet
                if first >> 4 == _PUBLISH and not first & _QOS_2:
                    self._take_publish(first, start, stop, inbox)
                else:
                    self._for_paho, self._at = self._buffer[self._at : stop], stop
                    if not on_control():
                        return False
                self._at = stop
            if len(inbox) >= limit or (inbox and self._read_bytes - started >= _TAKEN_BYTES):
                return True
            if self._is_drained or not self._read_more():
                return False

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """Write the PUBACKs of QoS 1 messages, in the order of the messages. Nothing else acknowledges readings."""
        self.unsent += b"".join([_PUBACK.pack(0x40, 2, delivery.mid) for delivery in deliveries if delivery.mid])

    def flush(self) -> None:
        """Write as many bytes as the kernel takes now; the rest stays for the next call.

        Raises:
            OSError: the connection is gone.
        """
        while self.unsent:
            try:
                sent = self._inner.send(self.unsent)
            except OSError as exc:
                if _would_block(exc):
                    self.is_full = True
                    return
                raise
            if self.is_full:
                self.is_full, self.heard = False, True
            del self.unsent[:sent]

    def ping(self) -> None:
        """Ask the broker for a sign of life. paho gets the answer, and ignores it."""
        self.unsent += _PINGREQ

    # paho's side -----------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Give paho bytes of the packet that it may read now."""
        if not self._for_paho:
            raise BlockingIOError
        data, self._for_paho = self._for_paho[:size], self._for_paho[size:]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take all the bytes; `flush` writes them."""
        self.unsent += data
        return len(data)

    def close(self) -> None:
        """Write what the kernel still takes, such as a DISCONNECT, and close the socket."""
        try:
            self.flush()
        except OSError:
            pass  # closing because the connection is gone
        finally:
            self._inner.close()

    def __getattr__(self, name: str) -> Any:
        # Whatever else is asked of a socket: fileno, setblocking, pending, …
        return getattr(self._inner, name)

    # Inside ----------------------------------------------------------------------------------------------------

    def _next_packet(self) -> tuple[int, int, int] | None:
        """First byte of the next packet, and where its content starts and ends; None while the packet is not whole."""
        buffer, at = self._buffer, self._at
        end = len(buffer)
        if end - at < 2:
            return None
        length, start = buffer[at + 1], at + 2
        if length > 127:
            length &= 127
            for digit in range(1, _LENGTH_DIGITS + 1):
                if digit == _LENGTH_DIGITS:
                    raise WireError("the broker sends what is not MQTT")
                if start >= end:
                    return None
                length |= (buffer[start] & 127) << (7 * digit)
                start += 1
                if buffer[start - 1] < 128:
                    break
        stop = start + length
        if stop <= end:
            return buffer[at], start, stop
        if length > 2 * PAYLOAD_KEPT_BYTES and end - start >= PAYLOAD_KEPT_BYTES + _READ_BYTES:
            # Far too large to be a reading: its head is a packet, the rest of it is not worth the memory.
            self._skip = stop - end
            return buffer[at], start, end
        return None

    def _take_publish(self, first: int, start: int, stop: int, inbox: list[Delivery]) -> None:
        buffer = self._buffer
        if stop - start < 2:
            raise WireError("the broker sends what is not MQTT")
        topic_end = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        payload_start = topic_end + (first & 2)  # the two bytes of an identifier, exactly at QoS 1
        if payload_start > stop:
            raise WireError("the broker sends what is not MQTT")
        mid = buffer[topic_end] << 8 | buffer[topic_end + 1] if first & 2 else 0
        if self._has_properties:
            # None of them matters here: we allow no topic alias, so the topic is always there.
            length, payload_start = self._read_length(payload_start)
            payload_start += length
            if payload_start > stop:
                raise WireError("the broker sends what is not MQTT")
        raw_topic = buffer[start + 2 : topic_end]
        if first & 1 and not self.wants_retained(raw_topic):
            # A retained copy is of unknown age and must raise no alert today. A live message comes without the flag.
            if mid:
                inbox.append(Delivery(RETAINED, b"", mid, False))
            return
        topic = self.topics.get(raw_topic)
        if topic is None:
            topic = self.topics.meet(raw_topic, raw_topic)
        inbox.append(Delivery(topic, buffer[payload_start:stop], mid, first & 8 != 0))

    def _read_length(self, at: int) -> tuple[int, int]:
        """Read a length in MQTT's digits of seven bits; gives the length, and where its digits end."""
        length = 0
        for digit in range(_LENGTH_DIGITS):
            if at >= len(self._buffer):
                break
            byte = self._buffer[at]
            at += 1
            length |= (byte & 127) << (7 * digit)
            if byte < 128:
                return length, at
        raise WireError("the broker sends what is not MQTT")

    def _read_more(self) -> bool:
        """Add the bytes that the socket has to the buffer; returns False when there are none now."""
        while True:
            try:
                data = self._inner.recv(_READ_BYTES)
                break
            except OSError as exc:
                if not _would_block(exc):
                    raise
                # A websocket says so after every control frame; what TLS still holds then, select does not know of.
                if self._pending is None or not self._pending():
                    return False
        self.heard = True
        self._read_bytes += len(data)
        if not data:
            raise WireError(CLOSED_SILENTLY)
        # A plain socket that gave less than it might has no more; TLS and websockets give a piece at a time.
        self._is_drained = self._pending is None and len(data) < _READ_BYTES
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0
        return True


def _would_block(exc: OSError) -> bool:
    # TLS has classes of its own for this, and not every Python has the ssl module.
    return isinstance(exc, BlockingIOError) or type(exc).__name__ in ("SSLWantReadError", "SSLWantWriteError")
