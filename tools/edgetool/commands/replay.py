"""`edgetool replay`: publishes the rows of a data file as readings, at a chosen rate."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho

from edge_agent.errors import BrokerError, UsageError
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.mqtt.granted import Granted, granted_of
from edgetool.broker import BrokerAddress, connected
from edgetool.data import DEFAULT_ASSET, DataSource, SensorData, as_files, read_sensor_data
from edgetool.progress import counted
from edgetool.sender_forms import SENDER_FORMS, messages_of

__all__ = ["ReplayReport", "replay"]

_UNACKNOWLEDGED = 100
"""Readings on their way: enough to keep a broker busy, and a file is never all in memory twice."""
_STALLED_S = 60.0
_HEAD_BYTES = 12
"""The most that a message has beside topic and payload."""
_TOPIC_LIMIT_BYTES = 60_000
_CHANNEL = "{channel}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What was sent."""

    file: str
    """The file, or the first of several and how many more."""
    readings: int
    messages: int
    """As many as readings, or with a `{channel}` in the topic as many as values."""
    acknowledged: int
    """Messages that the broker has acknowledged; at QoS 0, that were written to its socket."""
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "file": self.file,
            "readings": self.readings,
            "messages": self.messages,
            "acknowledged": self.acknowledged,
            "seconds": round(self.seconds, 3),
            "readings_per_s": round(self.readings / max(self.seconds, 1e-9), 1),
        }


def replay(
    file: DataSource,
    topic: str,
    *,
    broker: BrokerAddress | None = None,
    rate_hz: float | None = None,
    qos: int = 1,
    asset: str = DEFAULT_ASSET,
    sender: str | None = None,
) -> ReplayReport:
    """Publish a file's rows in order, and wait until the broker has them.

    Args:
        file: a sensor data file, or several.
        topic: `{asset}` in it becomes the row's asset. With a `{channel}` each value is a message, an object with
            `value` and the row's `time`; else each row is, an object with `time` and the channels.
        broker: where to; the local one when not given.
        rate_hz: readings per second; None sends as fast as the broker takes them.
        qos: 0 or 1.
        asset: for rows of a file without an asset column.
        sender: the name of a preset of the agent's `[stream.payload]`: messages are written as its sender does. A row
            without a time has that of its sending.

    Raises:
        DataError: the file cannot be read.
        BrokerError: the broker cannot be reached, refuses a message, or takes nothing for a minute.
        UsageError: there is no such sender, or its messages are of whole readings; the topic has a wildcard, or no
            place for the assets in the file, or a name cannot be its level.
    """
    _check_sender(sender, topic)
    files = as_files(file)
    data = read_sensor_data(files)
    topics = _topics(data, topic, asset)
    window = _Window()
    messages = 0

    def prepare(client: paho.Client) -> None:
        client.max_inflight_messages_set(_UNACKNOWLEDGED)
        client.on_connect = window.on_connect
        client.on_publish = window.on_publish

    opened = connected(broker or BrokerAddress(), prepare)
    with opened as client, counted(f"replaying {files.paths[0].name}", len(data)) as advance:
        started = time.monotonic()
        for row in range(len(data)):
            if rate_hz is not None:
                time.sleep(max(0.0, started + row / rate_hz - time.monotonic()))
            place = topics[row]
            made = _messages(data, row, place) if sender is None else _formed(data, row, place, asset, sender)
            for to, payload in made:
                window.check(to, payload, qos)
                window.enter()
                client.publish(to, payload, qos=qos)
                messages += 1
            advance()
        window.drain()
        seconds = time.monotonic() - started
    return ReplayReport(str(files), len(data), messages, window.acknowledged, seconds)


class _Window:
    """Bounds how many messages wait for the broker, and knows what it takes."""

    def __init__(self) -> None:
        self._room = threading.Semaphore(0)
        self._size = 0
        """Messages that may be on their way; 0 before the first connection."""
        self._granted = Granted()
        self._refusal: str | None = None
        self.acknowledged = 0

    def on_connect(self, _client: paho.Client, _data: Any, _flags: Any, _code: Any, properties: Any) -> None:
        """On the paho thread. paho (2.2) does not look at how many messages the broker allows, nor at their size."""
        self._granted = granted_of(properties)
        if not self._size:
            self._size = min(_UNACKNOWLEDGED, self._granted.in_flight)
            self._room.release(self._size)

    def on_publish(self, _client: paho.Client, _data: Any, _mid: int, code: Any, _properties: Any) -> None:
        """On the paho thread, when the broker has a message, or has refused it."""
        if code.is_failure:
            self._refusal = self._refusal or str(code)
        else:
            self.acknowledged += 1
        self._room.release()

    def check(self, topic: str, payload: bytes, qos: int) -> None:
        """Raise for a message that the broker would end the connection for."""
        if qos > self._granted.qos:
            raise BrokerError("the broker takes messages at QoS 0 only; give --qos 0")
        if len(payload) + len(topic.encode()) + _HEAD_BYTES > self._granted.packet_bytes:
            raise BrokerError(f"{topic}: the broker takes no message over {self._granted.packet_bytes} bytes")

    def enter(self) -> None:
        if not self._room.acquire(timeout=_STALLED_S):
            raise BrokerError(f"the broker has acknowledged nothing for {_STALLED_S:.0f} s; is it still running?")
        if self._refusal is not None:
            raise BrokerError(f"the broker refuses the readings ({self._refusal}); may the user write to this topic?")

    def drain(self) -> None:
        for _ in range(self._size):
            self.enter()


def _topics(data: SensorData, topic: str, asset: str) -> list[str]:
    if not topic or len(topic.encode()) > _TOPIC_LIMIT_BYTES or not topic.isprintable():
        raise UsageError(f"--topic {topic[:80]!r}: expected a topic such as sensors/{{asset}}/pump")
    if "+" in topic or "#" in topic:
        raise UsageError(f"--topic {topic!r}: a message cannot go to a wildcard; write {{asset}} for the asset")
    assets = data.assets or (asset,) * len(data)
    if data.assets is not None and len(set(assets)) > 1 and "{asset}" not in topic:
        raise UsageError(f"--topic {topic!r}: {data.path} has {len(set(assets))} assets; write {{asset}} for the asset")
    unknown = sorted(set(re.findall(r"{[^{}/]*}", topic)) - {"{asset}", _CHANNEL})
    if unknown:
        raise UsageError(f"--topic {topic!r}: {unknown[0]} stands for nothing; there are {{asset}} and {{channel}}")
    for name in sorted(set(assets)) if "{asset}" in topic else ():
        if not can_be_asset(name):
            raise UsageError(
                f"asset {name[:80]!r}: cannot be one level of a topic; rename it in the data or with --asset"
            )
    for name in data.channels if _CHANNEL in topic else ():
        if not can_be_asset(name):
            raise UsageError(f"channel {name[:80]!r}: cannot be one level of a topic; rename it in the data")
    return [topic.replace("{asset}", name) for name in assets]


def _check_sender(sender: str | None, topic: str) -> None:
    if sender is None:
        return
    if sender not in SENDER_FORMS:
        raise UsageError(f"--as {sender!r}: expected one of {', '.join(SENDER_FORMS)}")
    if _CHANNEL in topic:
        raise UsageError(f"--as {sender}: writes the channels into the message, so {{channel}} has no place in --topic")


def _formed(data: SensorData, row: int, topic: str, asset: str, sender: str) -> list[tuple[str, bytes]]:
    """Topic and payload of a row's messages, as another sender writes them."""
    at_s = time.time() if data.times is None else float(data.times[row])
    values = {
        name: None if np.isnan(value) else value
        for name, value in zip(data.channels, data.values[row].tolist(), strict=True)
    }
    name = asset if data.assets is None else data.assets[row]
    return [(topic, payload) for payload in messages_of(sender, name, at_s, values)]


def _messages(data: SensorData, row: int, topic: str) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each message of a row."""
    time: dict[str, float | None] = {} if data.times is None else {"time": float(data.times[row])}
    values = {
        name: None if np.isnan(value) else value
        for name, value in zip(data.channels, data.values[row].tolist(), strict=True)
    }
    if _CHANNEL not in topic:
        yield topic, msgspec.json.encode(time | values)
        return
    for name, value in values.items():
        if value is not None:
            yield topic.replace(_CHANNEL, name), msgspec.json.encode({**time, "value": value})
