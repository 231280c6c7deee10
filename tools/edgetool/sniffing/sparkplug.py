"""The stream of devices or nodes that speak Sparkplug B, by what they said of their metrics at birth."""

from __future__ import annotations

from collections.abc import Collection

from edge_agent.messages.sparkplug import NAMESPACE
from edge_agent.sources.formats import FormatError
from edge_agent.sources.formats.sparkplug import read_payload
from edgetool.sniffing.likeness import match_names

__all__ = ["FORM", "is_sparkplug", "metric_names", "sparkplug_topic", "table_of"]

FORM = "Sparkplug B"
_KINDS = ("NBIRTH", "DBIRTH", "NDATA", "DDATA")
_NODE_LEVELS = 4
_CONTROL = ("bdSeq", "Node Control/", "Device Control/", "Properties/")
"""What the names of metrics begin with that are none of a machine's."""


def is_sparkplug(topic: str) -> bool:
    """True for the topic of a birth or of data."""
    levels = topic.split("/")
    return levels[0] == NAMESPACE and len(levels) in (_NODE_LEVELS, _NODE_LEVELS + 1) and levels[2] in _KINDS


def sparkplug_topic(topics: Collection[str]) -> str:
    """The topic of a stream that reads all of these, which have one number of levels."""
    columns = list(zip(*(topic.split("/") for topic in topics), strict=True))
    shown = [column[0] if len({*column}) == 1 else "{any}" for column in columns]
    shown[2] = "NDATA" if len(columns) == _NODE_LEVELS else "DDATA"
    shown[-1] = "+"
    return "/".join(shown)


def metric_names(payloads: Collection[bytes]) -> list[str]:
    """The names of metrics with a number, which births have."""
    found: dict[str, None] = {}
    for payload in payloads:
        try:
            metrics = read_payload(payload).metrics
        except FormatError:
            continue
        for metric in metrics:
            if (
                metric.name is not None
                and isinstance(metric.value, int | float)
                and not metric.name.startswith(_CONTROL)
            ):
                found[metric.name] = None
    return list(found)


def table_of(names: Collection[str], channels: Collection[str]) -> dict[str, dict[str, str]]:
    """`channels` of `[stream.payload]`, for those that are called otherwise."""
    renamed = {channel: name for channel, name in match_names(channels, names).items() if channel != name}
    return {"channels": renamed} if renamed else {}
