"""Reads `agent.toml` into frozen structs. All configuration errors are reported at once."""

from __future__ import annotations

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

import msgspec

from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ConfigError
from edge_agent.journal.settings import JournalSettings
from edge_agent.messages.topic_names import TopicFilter, input_topic
from edge_agent.mqtt.settings import BrokerSettings, MqttSettings, broker_problems, with_credentials
from edge_agent.setting_types import (
    Assets,
    Duration,
    Megabytes,
    Name,
    Qos,
    Seconds,
    Text,
    expected,
    meant_by,
    read_value,
)
from edge_agent.sources.formats import FORMATS
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.commission import MIN_READINGS
from edge_agent.stream.settings import MAX_STATE_MB, CommissionSettings, DriftSettings, StreamSettings
from edge_agent.stream.window import WindowSettings

__all__ = [
    "AgentSettings",
    "Config",
    "MqttSettings",
    "StreamSection",
    "load_config",
]

_SERVICE_STATE_DIR = Path("/var/lib/edge-agent")
"""The folder that systemd makes for the service; commands that run beside the service find its state there."""


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[agent]`: the device's id, its state folder and its health messages."""

    id: Name = ""
    """Part of every topic; the host name if not given."""
    state_dir: Text = ""
    """Folder of the journal and of the remembered provider. If not given: `$STATE_DIRECTORY`, or the service's
    /var/lib/edge-agent if that folder exists."""
    allow_unsafe_state_dir: bool = False
    """Start although others may write in the state folder."""
    runtime_dir: Text | None = None
    """Folder on no disk that outlives the process, in which stands what is worked on. If not given:
    `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR`, or /dev/shm."""
    health_interval_s: Seconds = 10.0
    """Time between two messages on `edge/{agent}/health`."""


class StreamSection(msgspec.Struct, frozen=True, kw_only=True):
    """`[[stream]]`: readings of one kind of asset, and the bundle that scores them."""

    name: Name
    """Part of the alerts' topics."""
    bundle: Text
    """Path of the `.edge` file; a relative path begins at the folder that the agent is started in."""
    topic: Text | None = None
    """Topic filter of the readings; its one `+` (or `{asset}`) is the asset. With a `{channel}` in the filter, each
    message has values of one channel."""
    input: Text | None = None
    """In place of a topic: a file or a named pipe with readings, CSV or JSON lines, or `-` for the standard input."""
    qos: Qos = 1
    """QoS of the subscription; 0 loses readings while the agent is away."""
    format: Text = "auto"
    """Format of the payloads: a key of `sources.formats.FORMATS`."""
    join_s: Seconds = 1.0
    """With a `{channel}` in the topic: values within so many seconds are one reading."""
    idle_s: Duration = 604800.0
    """An asset that is silent for so many seconds, without an alert and without a limit of its own, is forgotten; 0
    forgets none."""
    max_assets: Assets = 10_000
    """Most assets that are remembered at once. For a new one, the asset heard least recently is forgotten, unless it
    has an alert or a limit of its own; 0 sets no limit."""
    max_state_mb: Megabytes = MAX_STATE_MB
    """Most memory that they take together, in units of 1,000,000 bytes: fewer are remembered where `max_assets` would
    take more. 0 sets no limit."""
    window: WindowSettings = WindowSettings()
    alarm: AlarmSettings = AlarmSettings()
    commission: CommissionSettings = CommissionSettings()
    drift: DriftSettings = DriftSettings()

    @property
    def filter(self) -> TopicFilter:
        """The parsed topic filter; for an `input`, the filter of the topic that stands for it.

        Raises:
            ValueError: the topic is not a filter of readings; `load_config` has checked it.
        """
        return TopicFilter(self.topic or input_topic(self.name, "{asset}"))

    @property
    def settings(self) -> StreamSettings:
        """The settings that the stream's pipeline needs."""
        return StreamSettings(
            window=self.window,
            alarm=self.alarm,
            commission=self.commission,
            drift=self.drift,
            max_assets=self.max_assets,
            max_state_mb=self.max_state_mb,
            join_s=self.join_s if self.filter.names_channel else None,
        )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of `agent.toml`, with defaults filled in."""

    agent: AgentSettings
    mqtt: MqttSettings
    engine: EngineSettings
    journal: JournalSettings
    streams: tuple[StreamSection, ...]

    def describe(self) -> dict[str, Any]:
        """The effective settings with the keys of the file. Safe to paste into a report: secrets are in other files."""
        shown: dict[str, Any] = {section: msgspec.to_builtins(getattr(self, section)) for section in _SECTIONS}
        shown["stream"] = [msgspec.to_builtins(stream) for stream in self.streams]
        return shown


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "agent": AgentSettings,
    "mqtt": MqttSettings,
    "engine": EngineSettings,
    "journal": JournalSettings,
}


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read the configuration, check it, and fill in defaults.

    Args:
        path: the TOML file.
        overrides: settings that replace those of the file, as `section.key=value` with a TOML value (a bare word is a
            text).

    Raises:
        ConfigError: the file cannot be read, or has problems; the text lists all of them, one line each.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); give the file with --config") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not TOML: it is not UTF-8 ({exc.reason} at byte {exc.start})") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: is not TOML: {exc}{_missing_quotes(text, exc)}") from exc
    except (ValueError, RecursionError) as exc:  # an integer of thousands of digits; tables a thousand deep
        raise ConfigError(f"{path}: is not a configuration: {exc}") from exc
    problems: list[str] = []
    for override in overrides:
        _apply_override(document, override, problems)
    config = _read_document(document, problems)
    if problems or config is None:
        raise ConfigError(*(f"{path}: {problem}" for problem in problems))
    return config


def _apply_override(document: dict[str, Any], override: str, problems: list[str]) -> None:
    match = re.fullmatch(r"(\w+)\.(\w+)=(.*)", override)
    if match is None:
        problems.append(
            f"--set {override}: expected SECTION.KEY=VALUE, such as mqtt.port=8883; streams are set in the file"
        )
        return
    section, key, text = match.groups()
    if section == "stream":
        problems.append(f"--set {override}: there may be several streams, so keys of a [[stream]] stand in the file")
        return
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(value, int | float) and _is_text(section, key):
        value = text  # the shell has removed the quotes of a text that looks like a number
    table = document.setdefault(section, {})
    if isinstance(table, dict):
        table[key] = value
    else:
        problems.append(f"--set {override}: [{section}] is not a table with keys")


def _is_text(section: str, key: str) -> bool:
    """True if the key takes any text, so that a number is meant as a text."""
    fields = msgspec.structs.fields(_SECTIONS[section]) if section in _SECTIONS else ()
    return any(field.name == key and meant_by(0, field.type) == '"0"' for field in fields)


def _missing_quotes(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Advice for a line that is not TOML because the quotes around a text are missing; empty for other errors."""
    place = re.search(r"\(at line (\d+), ", str(error))
    lines = text.splitlines()
    if place is None or not 0 < int(place[1]) <= len(lines):
        return ""
    found = re.fullmatch(r"""\s*(\w+)\s*=\s*([^"'\[{#]+?)\s*(#.*)?""", lines[int(place[1]) - 1])
    if found is None:
        return ""
    key, value = found[1], found[2]
    if value.lower() in {"true", "false"}:
        return f"; write {key} = {value.lower()}"
    # A value that begins with a digit is a mistyped number, unless it has several points, like an address or a version.
    if value[0].isdigit() and not re.match(r"\d+(\.\d+){2}", value):
        return ""
    quote = "'" if "\\" in value else '"'
    return f"; a text stands between quotes: {key} = {quote}{value}{quote}"


def _read_document(document: dict[str, Any], problems: list[str]) -> Config | None:
    known = [*_SECTIONS, "stream"]
    problems.extend(f"[{name}]: unknown section{_suggest(name, known)}" for name in document if name not in known)
    sections = {
        name: _read_table(document.get(name, {}), f"[{name}]", kind, problems) for name, kind in _SECTIONS.items()
    }
    streams = _read_streams(document.get("stream", []), problems)
    agent = _complete_agent(sections["agent"], problems)
    mqtt = _complete_mqtt(sections["mqtt"], problems)
    engine = EngineSettings(**sections["engine"])
    _check_engine(engine, problems)
    if problems:
        return None
    return Config(
        agent=agent, mqtt=mqtt, engine=engine, journal=JournalSettings(**sections["journal"]), streams=tuple(streams)
    )


def _read_table(
    table: object, where: str, kind: type[msgspec.Struct], problems: list[str], outer: Collection[str] = ()
) -> dict[str, Any]:
    """Read the correct keys of one table; the problems of the others are added to `problems`.

    Args:
        table: the table, as TOML gives it.
        where: the table's name, for messages.
        kind: the struct whose fields are the table's keys.
        problems: a list to add to.
        outer: keys of the enclosing table.
    """
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table of keys, found {type(table).__name__}")
        return {}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            hint = _belongs(key, where, fields, outer) or _suggest(key, list(fields))
            problems.append(f"{where} {key}: unknown key{hint}")
            continue
        table_kind = _table_of(fields[key].type)
        if table_kind is not None:
            inner = f"{where} [{key}]"
            before = len(problems)
            found = _read_table(value, inner, table_kind, problems, fields)
            if len(problems) == before:
                good[key] = table_kind(**found)
            continue
        try:
            good[key] = read_value(value, fields[key].type)
        except ValueError:
            meant = meant_by(value, fields[key].type)
            advice = f"; write {key} = {meant}" if meant else ""
            problems.append(f"{where} {key} = {value!r}: expected {expected(fields[key].type)}{advice}")
    problems.extend(
        f"{where} {name}: is missing" for name, field in fields.items() if field.required and name not in table
    )
    return good


def _table_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct of a field that is a table, also of one that may be None; None if the field is no table."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind
    return None


def _read_streams(tables: object, problems: list[str]) -> list[StreamSection]:
    if isinstance(tables, dict):
        problems.append("[stream]: is written [[stream]], because there may be several")
        return []
    if not isinstance(tables, list) or not tables:
        problems.append("[[stream]]: at least one is needed, with name, bundle and topic (or input)")
        return []
    streams: list[StreamSection] = []
    names: set[str] = set()
    for number, table in enumerate(tables, start=1):
        where = f"[[stream]] {number}"
        before = len(problems)
        good = _read_table(table, where, StreamSection, problems)
        problems.extend(f"{where} {problem}" for problem in (*_topic_problems(table, good), *_stream_problems(good)))
        is_whole = len(problems) == before
        if good.get("name") in names:
            problems.append(f"{where} name = {good['name']!r}: used by an earlier stream too")
        names.add(good.get("name", where))
        if not is_whole:
            continue
        stream = StreamSection(**good)
        if stream.input is not None and any(stream.input == other.input for other in streams):
            problems.append(f"{where} input = {stream.input!r}: used by an earlier stream too")
        problems.extend(
            f"{where} topic = {stream.topic!r}: overlaps {other.topic!r} of stream {other.name!r}; "
            "a reading must belong to one stream"
            for other in streams
            if stream.topic and stream.filter.overlaps(other.filter)
        )
        streams.append(stream)
    return streams


def _topic_problems(table: Any, good: dict[str, Any]) -> list[str]:
    """The problems of `topic` and `input`."""
    if isinstance(table, dict) and not {"topic", "input"} & table.keys():
        return ["topic: is missing, or input in its place"]
    if {"topic", "input"} <= good.keys():
        return ["topic, input: readings come from one of them"]
    try:
        TopicFilter(good.get("topic", "-"))
    except ValueError as exc:
        return [f"topic = {good['topic']!r}: {exc}"]
    return []


def _stream_problems(good: dict[str, Any]) -> list[str]:
    """The problems of keys that are correct alone and not together, and of an unknown `format`."""
    problems: list[str] = []
    payload_format = good.get("format", "auto")
    alarm, readings = good.get("alarm", AlarmSettings()), good.get("commission", CommissionSettings()).readings
    if payload_format not in FORMATS:
        problems.append(f"format = {payload_format!r}: expected one of {', '.join(FORMATS)}")
    if alarm.confirm > alarm.of:
        problems.append(f"[alarm] confirm = {alarm.confirm}: must not be above of = {alarm.of}")
    if 0 < readings < MIN_READINGS:
        problems.append(f"[commission] readings = {readings}: expected 0, or at least {MIN_READINGS}")
    return problems


def _complete_agent(given: dict[str, Any], problems: list[str]) -> AgentSettings:
    if "id" not in given:
        # A host name has no character that a level of a topic must not have.
        given["id"] = socket.gethostname() or "edge"
    if "state_dir" not in given and not any(problem.startswith("[agent] state_dir") for problem in problems):
        # systemd gives several folders as a list with colons; ours is the first.
        given["state_dir"] = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if not given["state_dir"] and os.path.isdir(_SERVICE_STATE_DIR):  # noqa: PTH112 - is_dir() raises where a folder above is not ours to read
            given["state_dir"] = str(_SERVICE_STATE_DIR)
        if not given["state_dir"]:
            problems.append(
                f"[agent] state_dir: is missing, $STATE_DIRECTORY is not set, and the service's {_SERVICE_STATE_DIR} "
                "is not there, or not ours to read; give one, perhaps with --set agent.state_dir=FOLDER"
            )
    return AgentSettings(**given)


def _complete_mqtt(given: dict[str, Any], problems: list[str]) -> MqttSettings:
    mqtt = MqttSettings(**with_credentials(given, "mqtt"))
    if mqtt.alerts is not None:
        named = {key: value for key, value in msgspec.structs.asdict(mqtt.alerts).items() if value is not None}
        alerts = BrokerSettings(**with_credentials(named, "mqtt-alerts"))
        problems += [f"[mqtt] [alerts] {problem}" for problem in broker_problems(alerts)]
        mqtt = msgspec.structs.replace(mqtt, alerts=alerts)
    problems += [f"[mqtt] {problem}" for problem in broker_problems(mqtt)]
    return mqtt


def _check_engine(engine: EngineSettings, problems: list[str]) -> None:
    if engine.require is not None and (engine.prefer or engine.provider not in ("auto", engine.require)):
        problems.append("[engine] require: leaves no choice, so provider and prefer must not be given beside it")
    if engine.prefer and engine.provider != "auto":
        problems.append(f"[engine] prefer: has no effect beside provider = {engine.provider!r}; leave one out")


def _belongs(key: str, where: str, fields: dict[str, Any], outer: Collection[str]) -> str:
    """Advice for a key in the wrong table, as in TOML all keys below a table's heading belong to that table."""
    if key in outer:
        return f"; it belongs above this table, right below {where.rpartition(' [')[0]}"
    for name, field in fields.items():
        kind = _table_of(field.type)
        if kind is not None and key in kind.__struct_fields__:
            return f"; it belongs into a table [{where.strip('[] 0123456789')}.{name}] below"
    return ""


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
