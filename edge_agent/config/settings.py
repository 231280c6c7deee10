"""What `agent.toml` says, with defaults filled in. A path that is relative in the file begins at the file's folder."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.bundle import Bundle, Threshold
from edge_agent.config.trust import TrustSettings
from edge_agent.config.updates import UpdateSettings
from edge_agent.engine.settings import EngineSettings
from edge_agent.journal.settings import JournalSettings
from edge_agent.messages.topic_names import TopicFilter, TopicFilters, input_topic
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outputs.settings import (
    OUTPUTS,
    EvidenceSettings,
    HomeAssistantSettings,
    MetricsSettings,
    PublishSettings,
    SparkplugSettings,
    in_words,
)
from edge_agent.setting_types import Assets, Duration, FilePath, Megabytes, Name, Qos, Score, Scores, Seconds, Text
from edge_agent.sources.formats import SPARKPLUG
from edge_agent.sources.mapping.presets import PRESETS
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.metadata_formats import METADATA_FORMATS
from edge_agent.sources.modbus import ModbusSettings
from edge_agent.sources.opcua import OpcuaSettings
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import MAX_STATE_MB, CommissionSettings, DriftSettings, StreamSettings
from edge_agent.stream.storm import StormSettings
from edge_agent.stream.window_settings import WindowSettings

__all__ = [
    "IDLE_S",
    "SECTIONS",
    "AgentSettings",
    "Config",
    "Shared",
    "StreamSection",
    "ThresholdSettings",
    "topic_filters",
]

IDLE_S = 604_800.0
"""Default of `idle_s`, a week, seconds."""


class Shared(StrEnum):
    """Which member of a group the broker hands a message to."""

    ANY = "any"
    BY_TOPIC = "by-topic"
    """The messages of a topic to one member, as EMQX does with `hash_topic`."""


TopicText = Annotated[str | tuple[str, ...], Meta(description="a topic, or a list of topics")]
"""Its texts have no pattern for the reason that stands in `sources.mapping.settings`; `TopicFilter` looks at them."""


def topic_filters(topic: str | tuple[str, ...], asset: str | None, payload_format: str = "auto") -> TopicFilters:
    """The filters of a stream's `topic` and `asset`.

    Args:
        topic: one or several.
        asset: what the asset is made of.
        payload_format: a format of `METADATA_FORMATS` needs topics beside what is written.

    Raises:
        ValueError: they are none.
    """
    topics = (topic,) if isinstance(topic, str) else topic
    if not topics:
        raise ValueError("expected at least one topic")
    needed = METADATA_FORMATS.get(payload_format)
    if needed is None:
        return TopicFilters([TopicFilter(each, asset) for each in topics])
    wanted = [needed.topics(each) for each in topics]
    filters = [TopicFilter(first, asset) for first, *_ in wanted]
    others = [each for _, *further in wanted for each in further]
    for more in [TopicFilter(each, wants_retained=needed.is_retained) for each in others]:
        if not any(more.overlaps(known) for known in filters):
            filters.append(more)
    return TopicFilters(filters)


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[agent]`: the device's id, its state folder and its health messages."""

    id: Name = ""
    """Part of every topic; the host name if not given."""
    state_dir: FilePath = ""
    """Folder of the journal and of the remembered provider. If not given: `$STATE_DIRECTORY`, or the service's
    /var/lib/edge-agent if that folder exists."""
    allow_unsafe_state_dir: bool = False
    """Start although others may write in the state folder."""
    runtime_dir: FilePath | None = None
    """Folder on no disk that outlives the process, in which stands what is worked on. If not given:
    `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR`, or /dev/shm."""
    health_interval_s: Seconds = 10.0
    """Time between two messages on `edge/{agent}/health`."""


class ThresholdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[stream.threshold]`: limits of a score in place of the bundle's; higher scores are more anomalous."""

    alarm: Score
    """A score at or above it raises an alert."""
    clear: Score
    """A score below it ends the alert."""


class StreamSection(msgspec.Struct, frozen=True, kw_only=True):
    """`[[stream]]`: readings of one kind of asset, and the bundle that scores them."""

    name: Name
    """Part of the alerts' topics."""
    bundle: FilePath
    """Path of the `.edge` file."""
    topic: TopicText | None = None
    """Topic filter of the readings, or several; `+` or `{asset}` is the asset. With a `{channel}` in the filter, each
    message has values of one channel. See `messages.topic_names.TopicFilter`."""
    asset: Text | None = None
    """What the asset is called, of names in the topic's braces: `{line}-{cell}`."""
    input: FilePath | None = None
    """In place of a topic: a file or a named pipe with readings, CSV or JSON lines, or `-` for the standard input."""
    qos: Qos = 1
    """QoS of the subscription; 0 loses readings while the agent is away."""
    shared: Shared = Shared.ANY
    """With `$share/GROUP/` before the topic: which member of the group gets a message."""
    alerts: bool = True
    """Whether alerts are raised; without, scores alone are told."""
    format: Text = "auto"
    """Format of the payloads: a key of `sources.formats.FORMATS`."""
    join_s: Seconds = 1.0
    """With a `{channel}` in the topic, or `name` in `[stream.payload]`: values within so many seconds are one
    reading."""
    idle_s: Duration = IDLE_S
    """An asset that is silent for so many seconds, without an alert and without a limit of its own, is forgotten; 0
    forgets none."""
    silent_s: Duration = 0.0
    """An asset that is silent for so many seconds, while the broker is connected, raises an alert of level `silent`; 0
    raises none."""
    stuck_readings: Scores = 0
    """A channel that has one value for so many readings of its asset raises an alert of level `stuck`; 0 raises
    none."""
    max_assets: Assets = 10_000
    """Most assets that are remembered at once. For a new one, the asset heard least recently is forgotten, unless it
    has an alert or a limit of its own; 0 sets no limit."""
    max_state_mb: Megabytes = MAX_STATE_MB
    """Most memory that they take together, in units of 1,000,000 bytes: fewer are remembered where `max_assets` would
    take more. 0 sets no limit."""
    provider: Text | None = None
    """In place of `[engine] provider`, for this stream."""
    threshold: ThresholdSettings | None = None
    """None takes the bundle's."""
    payload: PayloadSettings = PayloadSettings()
    modbus: ModbusSettings = ModbusSettings()
    opcua: OpcuaSettings = OpcuaSettings()
    window: WindowSettings = WindowSettings()
    alarm: AlarmSettings = AlarmSettings()
    commission: CommissionSettings = CommissionSettings()
    drift: DriftSettings = DriftSettings()
    storm: StormSettings = StormSettings()

    @property
    def filters(self) -> TopicFilters:
        """The parsed topic filters; for an `input`, the filter of the topic that stands for it.

        Raises:
            ValueError: the topic is not a filter of readings; `load_config` has checked it.
        """
        if self.topic is None:
            return TopicFilters([TopicFilter(input_topic(self.name, "{asset}"))])
        return topic_filters(self.topic, self.asset, self.payload_format)

    @property
    def payload_format(self) -> str:
        """Its format, of wherever that is given."""
        preset = PRESETS.get(self.payload.preset or "", {})
        return self.payload.format or preset.get("format") or self.format

    @property
    def is_sparkplug(self) -> bool:
        """Whether it reads Sparkplug B."""
        return self.payload_format == SPARKPLUG

    @property
    def is_shared(self) -> bool:
        """Whether the broker shares its readings among several agents."""
        return self.topic is not None and self.filters.is_shared

    @property
    def topics(self) -> tuple[str, ...]:
        """Its topics, as they are written."""
        return (self.topic,) if isinstance(self.topic, str) else self.topic or ()

    @property
    def _joins(self) -> bool:
        """Whether values come one channel at a time. Sparkplug's devices send all at their birth, then what changes."""
        is_single = self.filters.names_channel or self.payload.name is not None
        return is_single and not self.is_sparkplug

    def limited(self, bundle: Bundle) -> Bundle:
        """The bundle with the limits of this stream, where it has some of its own."""
        if self.threshold is None:
            return bundle
        threshold = Threshold(alarm=self.threshold.alarm, clear=self.threshold.clear)
        return dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, threshold=threshold))

    @property
    def settings(self) -> StreamSettings:
        """The settings that the stream's pipeline needs."""
        return StreamSettings(
            window=self.window,
            alarm=self.alarm,
            commission=self.commission,
            drift=self.drift if self.alerts else DriftSettings(block=0),
            storm=self.storm,
            silent_s=self.silent_s,
            stuck_readings=self.stuck_readings,
            max_assets=self.max_assets,
            max_state_mb=self.max_state_mb,
            join_s=self.join_s if self._joins else None,
            sends_changes=self.is_sparkplug,
            alerts=self.alerts,
        )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of `agent.toml`, with defaults filled in."""

    agent: AgentSettings
    mqtt: MqttSettings
    engine: EngineSettings
    journal: JournalSettings
    trust: TrustSettings = TrustSettings()
    publish: PublishSettings
    evidence: EvidenceSettings
    homeassistant: HomeAssistantSettings
    metrics: MetricsSettings
    sparkplug: SparkplugSettings
    updates: UpdateSettings = UpdateSettings()
    streams: tuple[StreamSection, ...]

    def engine_of(self, section: StreamSection) -> EngineSettings:
        """The `[engine]` settings of one stream."""
        if section.provider is None:
            return self.engine
        return msgspec.structs.replace(self.engine, provider=section.provider, prefer=(), require=None)

    def outputs_in_words(self) -> list[str]:
        """What is published beside alerts, a few words for each."""
        return in_words(**{name: getattr(self, name) for name in OUTPUTS})

    def describe(self) -> dict[str, Any]:
        """The effective settings with the keys of the file. Safe to paste into a report: secrets are in other files."""
        shown: dict[str, Any] = {section: msgspec.to_builtins(getattr(self, section)) for section in SECTIONS}
        if not self.trust.keys:
            del shown["trust"]  # without keys there is no such table
        shown["stream"] = [_described(stream) for stream in self.streams]
        return shown


def _described(stream: StreamSection) -> dict[str, Any]:
    """All settings of a stream, but for tables of inputs that it does not have."""
    usual = {"modbus": ModbusSettings(), "opcua": OpcuaSettings()}
    unused = {key for key, table in usual.items() if getattr(stream, key) == table}
    shown = {key: value for key, value in msgspec.to_builtins(stream).items() if key not in unused}
    return {**shown, "payload": stream.payload.describe()}


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "agent": AgentSettings,
    "mqtt": MqttSettings,
    "engine": EngineSettings,
    "journal": JournalSettings,
    "trust": TrustSettings,
    "updates": UpdateSettings,
    **OUTPUTS,
}
