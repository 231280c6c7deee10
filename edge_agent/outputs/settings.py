"""Settings of what is published beside alerts."""

from __future__ import annotations

import msgspec

from edge_agent.messages.topic_names import can_be_topic
from edge_agent.messages.values import read_length
from edge_agent.mqtt.address import Address, read_address
from edge_agent.setting_types import Bytes, DayLength, Length, Listen, Name, Rate, Text, Whole

__all__ = [
    "OUTPUTS",
    "EvidenceSettings",
    "HomeAssistantSettings",
    "MetricsSettings",
    "PublishSettings",
    "in_words",
    "output_problems",
]

_LEAST_S, _MOST_S = 0.1, 86_400.0
METRICS_PORT = 9464
"""By convention that of a program which gives its own metrics."""


class PublishSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[publish]`: scores for who draws a picture of them."""

    scores: Length | None = None
    """Time between two messages with the scores of an asset, such as `5s`; None publishes none."""
    scores_a_second: Rate = 100
    """Most assets that are told each second, those nearest to their limit first."""

    @property
    def interval_s(self) -> float | None:
        """`scores` in seconds."""
        return None if self.scores is None else read_length(self.scores)


class EvidenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[evidence]`: the readings around each raise."""

    before_s: DayLength = 0.0
    """How far back from the reading that raised an alert."""
    after_s: DayLength = 0.0
    """How far on from it; with both 0, none are kept."""
    max_bytes: Bytes = 8_000_000
    """What readings that are kept, collected or wait for the broker may take in memory."""

    @property
    def is_on(self) -> bool:
        """Whether any are kept."""
        return self.before_s > 0 or self.after_s > 0


class HomeAssistantSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[homeassistant]`: assets announced to Home Assistant."""

    discovery: bool = False
    """Whether they are."""
    prefix: Text = "homeassistant"
    """What Home Assistant listens to: its discovery prefix."""
    most_assets: Whole = 200
    """Assets that are announced at most, those known longest."""


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[metrics]`: what Prometheus scrapes."""

    listen: Listen | None = None
    """HOST:PORT to listen on; None gives no metrics."""
    most_assets: Whole = 0
    """Assets that have metrics of their own, those nearest to their limit; needs `[publish] scores`."""

    @property
    def address(self) -> Address | None:
        """Where to listen.

        Raises:
            ValueError: `listen` is no address; `load_config` has checked it.
        """
        return None if self.listen is None else read_address(self.listen, METRICS_PORT)


class SparkplugSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[sparkplug]`: the agent as an edge node, its assets as devices; needs `[publish] scores`."""

    group: Name | None = None
    """The node's group; None for no node."""
    most_assets: Whole = 1000
    """Assets that are devices at most, those known longest."""


OUTPUTS: dict[str, type[msgspec.Struct]] = {
    "publish": PublishSettings,
    "evidence": EvidenceSettings,
    "homeassistant": HomeAssistantSettings,
    "metrics": MetricsSettings,
    "sparkplug": SparkplugSettings,
}
"""The tables of all that is published beside alerts."""


def output_problems(
    publish: PublishSettings,
    evidence: EvidenceSettings,
    homeassistant: HomeAssistantSettings,
    metrics: MetricsSettings,
    sparkplug: SparkplugSettings,
) -> list[str]:
    """What is wrong with values that are of the right type, a line each."""
    problems = []
    interval_s = publish.interval_s
    if interval_s is not None and not _LEAST_S <= interval_s <= _MOST_S:
        wanted = "expected a length of time from 0.1s to 1d, as 0.5s, 5s or 1min"
        problems.append(f"[publish] scores = {publish.scores!r}: {wanted}")
    if not can_be_topic(homeassistant.prefix):
        what = "expected levels of a topic, without '+', '#' or a '$' in front"
        problems.append(f"[homeassistant] prefix = {homeassistant.prefix!r}: {what}")
    try:
        _ = metrics.address
    except ValueError as exc:
        problems.append(f"[metrics] listen = {metrics.listen!r}: {exc}; write it as 127.0.0.1:{METRICS_PORT}")
    problems += [
        *_idle("publish", publish, "scores_a_second", None if publish.scores else "scores"),
        *_idle("metrics", metrics, "most_assets", None if publish.scores else "[publish] scores"),
        *_idle("metrics", metrics, "most_assets", None if metrics.listen else "listen"),
        *_idle("evidence", evidence, "max_bytes", None if evidence.is_on else "before_s or after_s"),
        *_idle("homeassistant", homeassistant, "prefix", None if homeassistant.discovery else "discovery = true"),
        *_idle("homeassistant", homeassistant, "most_assets", None if homeassistant.discovery else "discovery = true"),
        *_idle("sparkplug", sparkplug, "most_assets", None if sparkplug.group else "group"),
    ]
    if sparkplug.group is not None and interval_s is None:
        problems.append(f"[sparkplug] group = {sparkplug.group!r}: needs [publish] scores, which say how often")
    return problems


def _idle(table: str, settings: msgspec.Struct, key: str, missing: str | None) -> list[str]:
    """The problem of a key that somebody has set, where what it needs is missing."""
    value = getattr(settings, key)
    (default,) = (field.default for field in msgspec.structs.fields(settings) if field.name == key)
    if missing is None or value == default:
        return []
    return [f"[{table}] {key} = {value!r}: has no effect without {missing}"]


def in_words(
    publish: PublishSettings,
    evidence: EvidenceSettings,
    homeassistant: HomeAssistantSettings,
    metrics: MetricsSettings,
    sparkplug: SparkplugSettings,
) -> list[str]:
    """What is published beside alerts, a few words for each."""
    found = []
    if publish.scores is not None:
        found.append(f"scores every {publish.scores}, at most {publish.scores_a_second} a second")
    if evidence.is_on:
        found.append(f"readings from {evidence.before_s:g} s before a raise to {evidence.after_s:g} s after it")
    if homeassistant.discovery:
        found.append(f"discovery for Home Assistant below {homeassistant.prefix}/")
    if metrics.address is not None:
        found.append(f"metrics at http://{metrics.address}/metrics")
    if sparkplug.group is not None:
        found.append(f"an edge node of Sparkplug B in the group {sparkplug.group}")
    return found
