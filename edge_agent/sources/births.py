"""What Sparkplug's nodes and devices have said of their metrics at birth, by which their data are read.

    NBIRTH, DBIRTH     the names, aliases and datatypes of all metrics, with their values: kept in the journal, so that
                       a restart understands what comes next
    NDATA, DDATA       values by alias; for an alias of no birth, the node is asked for a new one
    NDEATH, DDEATH     what it has said counts no longer

Every message of a node has the next sequence number, so a gap shows that one was lost; the node is asked then, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from edge_agent.messages.reading import RejectReason
from edge_agent.messages.sparkplug import NAMESPACE
from edge_agent.sources.formats import FormatError
from edge_agent.sources.formats.sparkplug import Metric, SparkplugPayload, read_payload, rebirth_command, signed
from edge_agent.sources.metadata import Metadata

__all__ = ["Births", "sparkplug_topics"]

log = logging.getLogger(__name__)

_BIRTHS, _DATA, _DEATHS = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("NDEATH", "DDEATH")
_NODE_LEVELS = 4
_MOST_METRICS = 10_000
_MOST_ASKED = 2_000
"""Nodes of one stream of which it is known when they were asked."""
_ASK_INTERVAL_S = 60.0
_SEQUENCE = 256

_Names = dict[int, tuple[str, int]]
"""By alias, name and datatype."""


def sparkplug_topics(written: str) -> list[str]:
    """The topics that a stream of Sparkplug needs: data, births and deaths, of a device's node, too.

    Args:
        written: as in the configuration, `spBv1.0/GROUP/DDATA/NODE/+`; the kind of message may be any.

    Raises:
        ValueError: it is none of Sparkplug's.
    """
    levels = written.split("/")
    if levels[0] != NAMESPACE or len(levels) not in (_NODE_LEVELS, _NODE_LEVELS + 1):
        raise ValueError(f"expected {NAMESPACE}/GROUP/DDATA/NODE/+, or {NAMESPACE}/GROUP/NDATA/+, for Sparkplug")
    levels[2] = "{any}"
    if len(levels) == _NODE_LEVELS:
        return ["/".join(levels)]
    node = [level if level != "+" and not level.startswith("{") else "{any}" for level in levels[:_NODE_LEVELS]]
    return ["/".join(levels), "/".join(node)]


class Births(Metadata[_Names]):
    """The births of one stream, by group/node or group/node/device.

    Args:
        topics: of the stream, as they are written: those of devices have five levels, those of nodes four.
    """

    name = "sparkplug"
    key = "#birth/"

    def __init__(self, topics: Sequence[str] = ()) -> None:
        super().__init__(_Names)
        written = [topic.split("/") for topic in topics]
        self._levels = {len(levels) for levels in written} or {_NODE_LEVELS + 1}
        # Numbers are of all messages of a node, so who hears some of its devices only cannot tell what was lost.
        self._hears_all = all(levels[-1] == "+" or levels[-1].startswith("{") for levels in written)
        self._sequence: dict[str, int] = {}
        """Of each node, the last number; not in the journal, since what came while we were away is no gap."""
        self._asked_mono_s: dict[str, float] = {}
        self._commands: list[tuple[str, bytes]] = []
        self._gone: set[str] = set()
        self.gaps = 0
        """How often a sequence number was not the next one."""
        self.deaths = 0
        self.historical = 0
        """Values of the past, which are not scored."""

    def read(self, topic: str, payload: bytes) -> dict[str, Any] | None:
        """The metrics of a message; see `Metadata.read`."""
        levels = topic.split("/")
        if len(levels) < _NODE_LEVELS or levels[2] not in (*_BIRTHS, *_DATA, *_DEATHS):
            return None  # a command, or the state of a host
        kind, node = levels[2], f"{levels[1]}/{levels[3]}"
        who = "/".join([node, *levels[_NODE_LEVELS:]])
        if kind in _DEATHS:
            self._die(who, is_node=kind == "NDEATH")
            return None
        message = read_payload(payload)
        if kind == "NBIRTH":
            self._sequence[node] = _SEQUENCE - 1 if message.seq is None else (message.seq - 1) % _SEQUENCE
        self._follow(node, levels, message.seq)
        if kind in _BIRTHS:
            self._bear(who, message)
        metrics = self._named(who, node, levels, message)
        return {"metrics": metrics} if len(levels) in self._levels else None

    def has_time(self, payload: bytes) -> bool:
        """See `Metadata.has_time`; of two messages with the same number and time, one is the other again."""
        try:
            return read_payload(payload).timestamp is not None
        except FormatError:
            return False

    def take_commands(self) -> list[tuple[str, bytes]]:
        """See `Metadata.take_commands`; what asks nodes for their births."""
        commands, self._commands = self._commands, []
        return commands

    def take_gone(self) -> set[str]:
        """See `Metadata.take_gone`; those that were born again are not among them."""
        gone, self._gone = self._gone, set()
        return {_data_topic(who) for who in gone}

    def describe(self) -> dict[str, int]:
        """See `Metadata.describe`."""
        return {**super().describe(), "deaths": self.deaths, "gaps": self.gaps, "historical": self.historical}

    def _die(self, who: str, *, is_node: bool) -> None:
        self.deaths += 1
        gone = [each for each in self._known if each == who or (is_node and each.startswith(f"{who}/"))]
        for each in gone:
            self._forget(each)
        self._gone |= {who, *gone}
        if is_node:
            self._sequence.pop(who, None)
        log.warning("Sparkplug: %s has gone, by its own word or its broker's", who)

    def _follow(self, node: str, levels: list[str], seq: int | None) -> None:
        """Look at the sequence number of a message, which is one of its node."""
        if seq is None or not self._hears_all:
            return
        before = self._sequence.get(node)
        self._sequence[node] = seq
        if before is not None and seq != (before + 1) % _SEQUENCE:
            self.gaps += 1
            log.info("Sparkplug: messages of %s were lost, from %d to %d", node, before, seq)
            self._ask(levels)

    def _bear(self, who: str, message: SparkplugPayload) -> None:
        self._gone.discard(who)
        if len(message.metrics) > _MOST_METRICS:
            raise FormatError(RejectReason.TOO_LARGE, f"a birth of more than {_MOST_METRICS} metrics")
        names = {
            metric.alias: (metric.name, metric.datatype or 0)
            for metric in message.metrics
            if metric.alias is not None and metric.name is not None
        }
        self._learn(who, names)

    def _named(self, who: str, node: str, levels: list[str], message: SparkplugPayload) -> list[dict[str, Any]]:
        names = self._known.get(who, {})
        found = []
        for metric in message.metrics:
            name, datatype = metric.name, metric.datatype
            if metric.alias is not None and metric.alias in names:
                name, datatype = names[metric.alias][0], datatype or names[metric.alias][1]
            if name is None:
                self._ask(levels)
                detail = f"alias {metric.alias} is of no birth of {who} that was heard; the agent asks {node} for it"
                raise FormatError(RejectReason.NO_BIRTH, detail)
            if metric.is_historical:
                self.historical += 1
            else:
                found.append(_document(metric, name, datatype, message.timestamp))
        return found

    def _ask(self, levels: list[str]) -> None:
        """Ask a node for its births, once a minute at most."""
        node, now = "/".join((levels[1], levels[3])), time.monotonic()
        if now - self._asked_mono_s.get(node, -_ASK_INTERVAL_S) >= _ASK_INTERVAL_S:
            if len(self._asked_mono_s) >= _MOST_ASKED:
                self._asked_mono_s.clear()
            self._asked_mono_s[node] = now
            self._commands.append(
                (f"{NAMESPACE}/{levels[1]}/NCMD/{levels[3]}", rebirth_command(int(time.time() * 1000)))
            )
            log.info("Sparkplug: %s is asked for its births", node)


def _data_topic(who: str) -> str:
    group, node, *device = who.split("/")
    return "/".join([NAMESPACE, group, "DDATA" if device else "NDATA", node, *device])


def _document(metric: Metric, name: str, datatype: int | None, timestamp: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "value": signed(metric.value, datatype)}
    found["timestamp"] = timestamp if metric.timestamp is None else metric.timestamp
    if metric.quality is not None:
        found["quality"] = metric.quality
    return found
