"""Reads `agent.toml` into frozen structs. All configuration errors are reported at once."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config.inputs import input_problems
from edge_agent.config.paths import begin_at
from edge_agent.config.service_state import service_name, service_state_dir
from edge_agent.config.settings import IDLE_S, SECTIONS, AgentSettings, Config, StreamSection, topic_filters
from edge_agent.config.shared import agent_problems, sharing_problems
from edge_agent.config.tables import read_table, suggest
from edge_agent.config.trust import TrustSettings, trust_problems
from edge_agent.config.updates import UpdateSettings
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ConfigError
from edge_agent.journal.settings import JournalSettings
from edge_agent.mqtt.settings import BrokerSettings, MqttSettings, broker_problems, with_credentials
from edge_agent.outputs.settings import OUTPUTS, output_problems
from edge_agent.setting_types import meant_by
from edge_agent.sources.formats import FORMATS, SPARKPLUG
from edge_agent.sources.mapping.mapping import settings_problem, with_preset
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.metadata_formats import METADATA_FORMATS
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.commission import MIN_READINGS
from edge_agent.stream.settings import CommissionSettings
from edge_agent.stream.window_settings import LEAST_EVERY_S, Missing, Resample, WindowSettings

__all__ = ["load_config", "stream_problems"]

_LIMIT_BYTES = 1 << 20


def load_config(path: Path, overrides: tuple[str, ...] = (), *, is_here: bool = True) -> Config:
    """Read the configuration, check it, and fill in defaults.

    Args:
        path: the TOML file.
        overrides: settings that replace those of the file, as `section.key=value` with a TOML value (a bare word is a
            text). A relative path among them begins at the working folder.
        is_here: this is the machine that it is for; if not, the files that it names are not looked for.

    Raises:
        ConfigError: the file cannot be read, or has problems; the text lists all of them, one line each.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
        if len(content) > _LIMIT_BYTES:
            raise ConfigError(f"{path}: is not a configuration: it has more than {_LIMIT_BYTES} bytes")
        text = content.decode()
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
    for name, kind in SECTIONS.items():
        begin_at(path.parent, document.get(name), kind)
    tables = document.get("stream")
    for table in tables if isinstance(tables, list) else ():
        begin_at(path.parent, table, StreamSection)
    for override in overrides:
        _apply_override(document, override, problems)
    config = _read_document(document, problems, service_state_dir(service_name(path)), is_here=is_here)
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
    fields = msgspec.structs.fields(SECTIONS[section]) if section in SECTIONS else ()
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


def _read_document(
    document: dict[str, Any], problems: list[str], service_state_dir: Path, *, is_here: bool
) -> Config | None:
    known = [*SECTIONS, "stream"]
    problems.extend(f"[{name}]: unknown section{suggest(name, known)}" for name in document if name not in known)
    sections = {
        name: read_table(document.get(name, {}), f"[{name}]", kind, problems) for name, kind in SECTIONS.items()
    }
    streams = _read_streams(document.get("stream", []), problems)
    agent = _complete_agent(sections["agent"], problems, service_state_dir)
    mqtt = _complete_mqtt(sections["mqtt"], problems, is_here=is_here)
    engine = EngineSettings(**sections["engine"])
    _check_engine(engine, problems)
    trust = TrustSettings(**sections["trust"])
    if document.get("trust") == {}:
        problems.append("[trust] keys: is missing")
    if is_here:
        problems += [f"[trust] {problem}" for problem in trust_problems(trust)]
    outputs: dict[str, Any] = {name: kind(**sections[name]) for name, kind in OUTPUTS.items()}
    problems += output_problems(**outputs)
    problems += agent_problems(streams, outputs["publish"])
    if problems:
        return None
    return Config(
        agent=agent,
        mqtt=mqtt,
        engine=engine,
        journal=JournalSettings(**sections["journal"]),
        trust=trust,
        updates=UpdateSettings(**sections["updates"]),
        streams=tuple(streams),
        **outputs,
    )


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
        good = read_table(table, where, StreamSection, problems)
        if good.get("format") in METADATA_FORMATS:
            # It has no other form than that of its table.
            payload = good.get("payload", PayloadSettings())
            good["payload"] = msgspec.structs.replace(payload, format=payload.format or good["format"])
        problems.extend(f"{where} {problem}" for problem in (*_topic_problems(table, good), *stream_problems(good)))
        is_whole = len(problems) == before
        if good.get("name") in names:
            problems.append(f"{where} name = {good['name']!r}: used by an earlier stream too")
        names.add(good.get("name", where))
        if not is_whole:
            continue
        good["payload"] = with_preset(good.get("payload", PayloadSettings()))
        stream = StreamSection(**good)
        if stream.input is not None and any(stream.input == other.input for other in streams):
            problems.append(f"{where} input = {stream.input!r}: used by an earlier stream too")
        problems.extend(f"{where} {problem}" for other in streams if (problem := _clash(stream, other)))
        streams.append(stream)
    return streams


def _topic_problems(table: Any, good: dict[str, Any]) -> list[str]:
    """The problems of `topic` and `input`."""
    if isinstance(table, dict) and not {"topic", "input"} & table.keys():
        return ["topic: is missing, or input in its place"]
    if {"topic", "input"} <= good.keys():
        return ["topic, input: readings come from one of them"]
    if "asset" in good and "topic" not in good:
        return ["asset: has no effect without topic"]
    try:
        payload = _with_preset(good.get("payload", PayloadSettings()))
        payload_format = payload.format or good.get("format", "auto")
        filters = topic_filters(good.get("topic", "-"), good.get("asset"), payload_format)
    except ValueError as exc:
        return [f"topic = {good['topic']!r}: {exc}"]
    names_asset = payload_format == SPARKPLUG or payload.asset is not None or "{asset}" in (payload.names or "")
    if filters.mixes_assets and not names_asset:
        what = "which asset a reading is of stays open: let an {asset} stand in it, or [stream.payload] asset say it"
        return [f"topic = {good['topic']!r}: {what}"]
    return sharing_problems(good, filters)


def _with_preset(payload: PayloadSettings) -> PayloadSettings:
    """The table with its preset; as it is where that is wrong, which is told with the table."""
    try:
        return with_preset(payload)
    except ValueError:
        return payload


def _clash(stream: StreamSection, other: StreamSection) -> str | None:
    """Why two streams cannot both have their topics; None if they can."""
    if stream.topic is None or other.topic is None:
        return None
    clash = stream.filters.clashes(other.filters)
    if clash is not None:
        return (
            f"topic = {clash[0]!r}: overlaps {clash[1]!r} of stream {other.name!r}; a broker may send a message of "
            "both twice, so write the same topic in both, or two that have none in common"
        )
    if stream.qos != other.qos and {*stream.filters.subscriptions} & {*other.filters.subscriptions}:
        return f"qos = {stream.qos}: stream {other.name!r} has the same topic with another"
    return None


def stream_problems(good: dict[str, Any]) -> list[str]:
    """The problems of keys that are correct alone and not together, and of an unknown `format`."""
    problems: list[str] = []
    payload_format = good.get("format", "auto")
    alarm, readings = good.get("alarm", AlarmSettings()), good.get("commission", CommissionSettings()).readings
    if payload_format not in (*FORMATS, *METADATA_FORMATS):
        problems.append(f"format = {payload_format!r}: expected one of {', '.join((*FORMATS, *METADATA_FORMATS))}")
    if alarm.confirm > alarm.of:
        problems.append(f"[alarm] confirm = {alarm.confirm}: must not be above of = {alarm.of}")
    window = good.get("window", WindowSettings())
    if 0 < window.every_s < LEAST_EVERY_S:
        problems.append(f"[window] every_s = {window.every_s:g}: expected 0, or at least {LEAST_EVERY_S:g}")
    if window.resample is not Resample.LAST and not window.every_s:
        problems.append(f"[window] resample = {window.resample.value!r}: has no effect without every_s")
    if window.hold_s and window.missing in (Missing.SKIP, Missing.MODEL):
        problems.append(f"[window] hold_s = {window.hold_s:g}: has no effect with missing = {window.missing.value!r}")
    threshold = good.get("threshold")
    if threshold is not None and threshold.clear > threshold.alarm:
        problems.append(f"[threshold] clear = {threshold.clear:g}: must not be above alarm = {threshold.alarm:g}")
    silent_s, idle_s = good.get("silent_s", 0.0), good.get("idle_s", IDLE_S)
    if silent_s and 0 < idle_s <= silent_s:
        problems.append(f"silent_s = {silent_s:g}: must be below idle_s = {idle_s:g}, or a silence is never told")
    if 0 < readings < MIN_READINGS:
        problems.append(f"[commission] readings = {readings}: expected 0, or at least {MIN_READINGS}")
    problems += [f"[payload] {text}" for text in _payload_problems(good, payload_format)]
    problems += input_problems(good)
    return problems


def _payload_problems(good: dict[str, Any], payload_format: str) -> list[str]:
    """The problems of the table that no bundle is needed for."""
    names_channel = "{channel}" in str(good.get("topic"))
    problem = settings_problem(
        good.get("payload", PayloadSettings()), payload_format, topic_names_channel=names_channel
    )
    return [] if problem is None else [problem]


def _complete_agent(given: dict[str, Any], problems: list[str], service_state_dir: Path) -> AgentSettings:
    if "id" not in given:
        # A host name has no character that a level of a topic must not have.
        given["id"] = socket.gethostname() or "edge"
    if "state_dir" not in given and not any(problem.startswith("[agent] state_dir") for problem in problems):
        # systemd gives several folders as a list with colons; ours is the first.
        given["state_dir"] = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if not given["state_dir"] and os.path.isdir(service_state_dir):  # noqa: PTH112 - is_dir() raises where a folder above is not ours to read
            given["state_dir"] = str(service_state_dir)
        if not given["state_dir"]:
            problems.append(
                f"[agent] state_dir: is missing, $STATE_DIRECTORY is not set, and the service's {service_state_dir} "
                "is not there, or not ours to read; give one, perhaps with --set agent.state_dir=FOLDER"
            )
    return AgentSettings(**given)


def _complete_mqtt(given: dict[str, Any], problems: list[str], *, is_here: bool) -> MqttSettings:
    mqtt = MqttSettings(**with_credentials(given, "mqtt"))
    if mqtt.alerts is not None:
        named = {key: value for key, value in msgspec.structs.asdict(mqtt.alerts).items() if value is not None}
        alerts = BrokerSettings(**with_credentials(named, "mqtt-alerts"))
        problems += [f"[mqtt] [alerts] {problem}" for problem in broker_problems(alerts, is_here=is_here)]
        mqtt = msgspec.structs.replace(mqtt, alerts=alerts)
    problems += [f"[mqtt] {problem}" for problem in broker_problems(mqtt, is_here=is_here)]
    return mqtt


def _check_engine(engine: EngineSettings, problems: list[str]) -> None:
    if engine.require is not None and (engine.prefer or engine.provider not in ("auto", engine.require)):
        problems.append("[engine] require: leaves no choice, so provider and prefer must not be given beside it")
    hashes = [library.sha256 for library in engine.custom_ops]
    problems += [
        f"[engine] [[custom_ops]] {number} sha256 = {found!r}: used by an earlier one too; leave one out"
        for number, found in enumerate(hashes, start=1)
        if found in hashes[: number - 1]
    ]
    if engine.prefer and engine.provider != "auto":
        problems.append(f"[engine] prefer: has no effect beside provider = {engine.provider!r}; leave one out")
