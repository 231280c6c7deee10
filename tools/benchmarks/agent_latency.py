"""Time from reading to its alert at 1,000 readings a second, above the hop through the broker alone.

`python tools/benchmarks/agent_latency.py` prints a table. One process with one loop sends and listens, so that one
clock times both ends. Every fiftieth reading raises an alert of an asset of its own, and is timed until the alert is
here: sender, broker, agent (score, journal on the disk, publish), broker, listener. In between, as often, a message of
a reading's size goes from the sender to the listener through the same broker: sender, broker, listener. Both at QoS 1.
The bars are for the difference, from which only one of the two ways through the broker is taken off.
"""

from __future__ import annotations

import argparse
import select
import socket
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
from consumers import agent_command, running
from paho.mqtt.enums import CallbackAPIVersion
from workload import TOPIC, broker, machine, make_bundle, payloads

RATE_HZ = 1000
RAISE_EVERY = 50
BARS_MS = {50: 2.0, 99: 10.0}
_SETTLE_S = 2.0


class Sender:
    """Publishes at QoS 1 by bytes on a socket: paho would add its own time, and a thread."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        content = b"\0\4MQTT\4\2" + struct.pack(">H", 600) + _text("sender")
        self._socket.sendall(b"\x10" + _length(content) + content)
        self._socket.recv(4)
        self._mid = 0

    def send(self, topic: str, payload: bytes) -> None:
        """Publish; the broker's acknowledgements are thrown away when `drop_acks` is called."""
        self._mid = self._mid % 65535 + 1
        content = _text(topic) + struct.pack(">H", self._mid) + payload
        self._socket.sendall(b"\x32" + _length(content) + content)

    def drop_acks(self) -> None:
        """Read what has come."""
        if select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(65536)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


class Listener:
    """Times the arrival of alerts and of the messages that come directly."""

    def __init__(self, port: int) -> None:
        self.arrived_s: dict[str, float] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        while not self._client.is_connected():
            self._client.loop(0.1)
        self._client.subscribe([("edge/bench/alerts/bench/+", 1), ("direct/+", 1)])

    def wait(self, until_s: float) -> None:
        """Listen until then."""
        while (left_s := until_s - time.perf_counter()) > 0:
            sock = self._client.socket()
            assert sock is not None, "the broker closed the listener's connection"
            if select.select([sock], [], [], left_s)[0]:
                self._client.loop_read(64)
            if self._client.want_write():
                self._client.loop_write()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self.arrived_s.setdefault(message.topic.rpartition("/")[2], time.perf_counter())

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()


def turn(port: int, normal: list[bytes], raising: list[bytes], seconds: float) -> tuple[list[float], list[float], int]:
    """Milliseconds from reading to alert and of the direct hop, and how many readings left more than 1 ms late."""
    sender, listener = Sender(port), Listener(port)
    sent_s: dict[str, float] = {}
    late = 0
    start_s = time.perf_counter() + _SETTLE_S / 4
    for number in range(int(seconds * RATE_HZ)):
        due_s = start_s + number / RATE_HZ
        listener.wait(due_s)
        late += time.perf_counter() - due_s > 1 / RATE_HZ
        place = number % RAISE_EVERY
        topic, payload = TOPIC, normal[number % len(normal)]
        if place == 0:
            name = f"alert-{number}"
            topic, payload = f"sensors/{name}/bench", raising[number // RAISE_EVERY % len(raising)]
            sent_s[name] = time.perf_counter()
        sender.send(topic, payload)
        if place == RAISE_EVERY // 2:
            name = f"hop-{number}"
            sent_s[name] = time.perf_counter()
            sender.send(f"direct/{name}", payload)
        sender.drop_acks()
    listener.wait(time.perf_counter() + _SETTLE_S)
    sender.close()
    listener.close()
    took_ms = {name: (listener.arrived_s[name] - at_s) * 1e3 for name, at_s in sent_s.items()}
    alerts = [ms for name, ms in took_ms.items() if name.startswith("alert")]
    return alerts, [ms for name, ms in took_ms.items() if name.startswith("hop")], late


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{machine()}; {RATE_HZ} readings/s, every {RAISE_EVERY}th raises; {options.turns} turns of {options.seconds} s"
    )
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        readings = payloads(folder, 10_000)
        raising = readings[::100]
        normal = [reading for number, reading in enumerate(readings) if number % 100]
        print("| turn | percentile | reading to alert ms | direct hop ms | difference ms | bar | sent late |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for number in range(1, options.turns + 1):
            with broker(folder, inflight=20) as port, running(agent_command(folder, bundle, port), port):
                alert_ms, hop_ms, late = turn(port, normal, raising, options.seconds)
            for percentile, bar_ms in BARS_MS.items():
                alert, hop = (float(np.percentile(sample, percentile)) for sample in (alert_ms, hop_ms))
                found = f"{alert:.2f} | {hop:.2f} | {alert - hop:.2f}"
                print(f"| {number} | p{percentile} | {found} | at most {bar_ms:g} | {late} |", flush=True)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _length(content: bytes) -> bytes:
    digits, left = bytearray(), len(content)
    while True:
        left, digit = divmod(left, 128)
        digits.append(digit | (128 if left else 0))
        if not left:
            return bytes(digits)


if __name__ == "__main__":
    main()
