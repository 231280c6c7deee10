"""The agent as an edge node of Sparkplug B 3.0, and its assets as devices: topics, payloads and sequence numbers. Pure.

    NBIRTH, DBIRTH     the node and each device, with all their metrics; again whenever a host asks for it
    DDATA              metrics that have changed
    DDEATH             a device is gone
    NDEATH             the node is: the will of its connection, and its goodbye

Every message of the node but its death has the next sequence number, so that who listens knows when one was lost. A
message that is not sent must not take a number.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_agent.messages.protobuf import bytes_field, double_field, number_field, read_fields
from edge_agent.messages.scores import ScoreReport
from edge_agent.messages.sparkplug import NAMESPACE, REBIRTH
from edge_agent.messages.text import pair_name
from edge_agent.mqtt.message import Message

__all__ = ["EdgeNode", "Metric", "device_metrics", "device_name"]

_INT64, _DOUBLE, _BOOLEAN, _STRING = 4, 10, 11, 12
_LONG_FIELD, _DOUBLE_FIELD, _BOOLEAN_FIELD, _STRING_FIELD = 11, 13, 14, 15
_NUMBERS = 256


class Metric(NamedTuple):
    """One metric to publish."""

    name: str
    value: int | float | bool | str | None
    """None where there is none yet."""
    datatype: int


def device_name(stream: str, asset: str) -> str:
    """The device that stands for an asset; no two assets have the same."""
    return pair_name(stream, asset)


def device_metrics(report: ScoreReport | None, *, is_alarm: bool) -> list[Metric]:
    """The metrics of a device.

    Args:
        report: what its asset scored last; None where nothing is known yet.
        is_alarm: an alert of the asset is open that was told.
    """
    return [
        Metric("Score", None if report is None else report.highest, _DOUBLE),
        Metric("Limit", None if report is None else report.threshold, _DOUBLE),
        Metric("Alarm", is_alarm, _BOOLEAN),
    ]


class EdgeNode:
    """One agent's node, over all its connections.

    Args:
        group: its group.
        node: its name.
        version: of the agent, a metric of its birth.
        former: the birth number that the run before had last; None where nobody knows it.
        clock: epoch seconds.
    """

    def __init__(
        self,
        group: str,
        node: str,
        *,
        version: str,
        former: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = group
        self._node = node
        self._version = version
        self._clock = clock
        # Where it is not known, any number is better than 0: a death of the run before that comes late would be taken
        # for one of this run.
        self.last = int(clock() if former is None else former) % _NUMBERS
        """The birth number of the newest connection."""
        self._numbers: dict[str, int] = {}
        """The birth number of each connection that the node has, or may have next, by its session."""
        self._tried = self._session = ""
        self._seq = 0
        self.command_topic = self._topic("NCMD")
        """Where hosts ask for a new birth."""

    def will(self, session: str, present: str) -> Message:
        """The will of a connection that is tried; until it is there, the present one goes on with its own number.

        Args:
            session: of the connection that is tried.
            present: session of the newest connection whose CONNECT was sent. Only with such a one the number grows.
        """
        kept = (self._session, present)
        self._numbers = {name: number for name, number in self._numbers.items() if name in kept}
        if present == self._tried:
            self.last = (self.last + 1) % _NUMBERS
        self._tried = session
        self._numbers[session] = self.last
        return self.death(session)

    def death(self, session: str) -> Message:
        """The node is gone. The births of this session, which it ends, have the same number."""
        payload = self._head() + _metric(self._birth_number(session), self._now_ms())
        return Message(self._topic("NDEATH"), payload, qos=1)

    def birth(self, session: str) -> Message:
        """The node itself, on the connection of this session; numbers begin anew with it."""
        self._session = session
        self._seq = 0
        metrics = [
            self._birth_number(session),
            Metric(REBIRTH, False, _BOOLEAN),
            Metric("Properties/Version", self._version, _STRING),
        ]
        return self._message("NBIRTH", metrics)

    def device_birth(self, device: str, metrics: Sequence[Metric]) -> Message:
        """A device with all its metrics."""
        return self._message("DBIRTH", metrics, device)

    def device_data(self, device: str, metrics: Sequence[Metric]) -> Message:
        """Metrics of a device that was born, those that have changed since they were told."""
        return self._message("DDATA", metrics, device)

    def device_death(self, device: str) -> Message:
        """A device is gone."""
        return self._message("DDEATH", [], device)

    def sent(self) -> None:
        """The message that was made last was sent, and the next one has the next number."""
        self._seq = (self._seq + 1) % _NUMBERS

    @staticmethod
    def is_rebirth(payload: bytes) -> bool:
        """Whether a command asks for births; one that cannot be read asks for nothing."""
        try:
            for number, value in read_fields(payload, 0, len(payload)):
                if number != 2 or not isinstance(value, tuple):
                    continue
                metric = dict(read_fields(payload, *value))
                name = metric.get(1)
                if isinstance(name, tuple) and payload[slice(*name)] == REBIRTH.encode():
                    return bool(metric.get(_BOOLEAN_FIELD))
        except (IndexError, struct.error):
            return False
        return False

    def _message(self, kind: str, metrics: Sequence[Metric], device: str = "") -> Message:
        now_ms = self._now_ms()
        body = b"".join(_metric(metric, now_ms) for metric in metrics)
        return Message(self._topic(kind, device), self._head() + body + number_field(3, self._seq))

    def _head(self) -> bytes:
        return number_field(1, self._now_ms())

    def _birth_number(self, session: str) -> Metric:
        return Metric("bdSeq", self._numbers[session], _INT64)

    def _topic(self, kind: str, device: str = "") -> str:
        return "/".join([NAMESPACE, self._group, kind, self._node, *([device] if device else [])])

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _metric(metric: Metric, at_ms: int) -> bytes:
    found = bytes_field(1, metric.name.encode()) + number_field(3, at_ms) + number_field(4, metric.datatype)
    value = metric.value
    if value is None:
        found += number_field(7, 1)
    elif metric.datatype == _DOUBLE:
        found += double_field(_DOUBLE_FIELD, float(value))
    elif metric.datatype == _STRING:
        found += bytes_field(_STRING_FIELD, str(value).encode())
    else:
        found += number_field(_BOOLEAN_FIELD if metric.datatype == _BOOLEAN else _LONG_FIELD, int(value))
    return bytes_field(2, found)
