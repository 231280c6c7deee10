"""What came over the broker, put into the configuration: the bundle that runs, and keys of its stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config.load import stream_problems
from edge_agent.config.settings import Config, StreamSection
from edge_agent.config.tables import read_table
from edge_agent.config.trust import TrustSettings
from edge_agent.errors import ConfigError, TrustError
from edge_agent.files.checksum import file_hash
from edge_agent.trust import load_keys, read_wish
from edge_agent.update.store import Standing, Store

__all__ = [
    "CHANGEABLE",
    "settings_problem",
    "stores_of",
    "update_remarks",
    "with_settings",
    "with_updates",
]

CHANGEABLE = ("threshold", "alarm", "commission", "drift", "storm", "silent_s", "stuck_readings", "provider")
"""Keys of a `[[stream]]` that a wish may change: none says where readings come from, or what is loaded."""


def stores_of(config: Config) -> dict[str, Store]:
    """By its name, the store of each stream that updates may come for; empty where none may."""
    if not config.updates.over_broker or not config.trust.keys:
        return {}
    return {
        section.name: Store(Path(config.agent.state_dir), section.name)
        for section in config.streams
        if section.input is None
    }


def with_updates(config: Config, standings: Mapping[str, Standing] | None = None) -> Config:
    """A configuration with what came over the broker in place of what it says itself.

    Args:
        config: as it is in the file.
        standings: by stream; None for what the disk has.

    Raises:
        ConfigError: a key cannot be read that settings are held against.
        MissingExtraError: what checks signatures is not installed.
    """
    stores = stores_of(config)
    if not stores:
        return config
    if standings is None:
        standings = {name: store.load() for name, store in stores.items()}
    sections = [
        _with_standing(section, standings[section.name], stores[section.name], config.trust)[0]
        if section.name in standings
        else section
        for section in config.streams
    ]
    return msgspec.structs.replace(config, streams=tuple(sections))


def update_remarks(config: Config) -> list[str]:
    """What came over the broker and does not count any more, a line each."""
    stores = stores_of(config)
    found = [
        f"settings that came over the broker for stream {section.name!r} are left out: {problem}"
        for section in config.streams
        if (store := stores.get(section.name))
        and (problem := settings_problem(section, store.load(), store, config.trust))
    ]
    for folder in sorted((Path(config.agent.state_dir) / "updates").glob("stream-*")):
        name = folder.name.removeprefix("stream-")
        active = None if name in stores else Store(Path(config.agent.state_dir), name).load().active
        if active is None:
            continue
        is_here = any(section.name == name for section in config.streams)
        why = "updates are off ([trust], [updates])" if is_here else "no stream of this name is configured"
        found.append(f"{active} came over the broker for stream {name!r} and does not run: {why}")
    return found


def settings_problem(section: StreamSection, standing: Standing, store: Store, trust: TrustSettings) -> str | None:
    """Why settings that came over the broker do not hold any more; None if they do."""
    return _with_standing(section, standing, store, trust)[1]


def _with_standing(
    section: StreamSection, standing: Standing, store: Store, trust: TrustSettings
) -> tuple[StreamSection, str | None]:
    """One stream's settings with its updates, and why those that came are left out.

    The file is the device's own word, and its keys are: what does not go with it any more does not hold.
    """
    settings = dict(standing.settings)
    active = standing.active
    if active is not None and _is_as_it_was(section, standing):
        section = msgspec.structs.replace(section, bundle=str(store.path(active.sha256)))
    else:
        active = None
    if "threshold" in settings and standing.threshold_for != _running_hash(section, active):
        # Limits are a model's; those of another one mean nothing.
        del settings["threshold"]
    keys = load_keys([Path(key) for key in trust.keys]) if standing.settings else None
    try:
        if keys is not None:
            read_wish(standing.settings_wish.encode(), keys)
        return (with_settings(section, settings) if settings else section), None
    except TrustError as exc:
        return section, f"the wish that brought them does not count any more: {exc}"
    except ConfigError as exc:
        return section, f"they do not go with agent.toml any more: {'; '.join(exc.lines)}"


def _is_as_it_was(section: StreamSection, standing: Standing) -> bool:
    """Whether the configuration still names the file that the update took the place of."""
    if standing.configured is None:
        return True
    try:
        return file_hash(Path(section.bundle)) == standing.configured.sha256
    except OSError:
        return True  # it is gone, which is nobody's word for another one


def _running_hash(section: StreamSection, active: object) -> str:
    name = getattr(active, "sha256", None)
    try:
        return name or file_hash(Path(section.bundle))
    except OSError:
        return ""


def with_settings(section: StreamSection, settings: Mapping[str, Any]) -> StreamSection:
    """A stream's settings with some keys changed; of a table, the keys that are given.

    Raises:
        ConfigError: a key is unknown, may not be changed so, or its value is wrong; a line for each.
    """
    where = f"[[stream]] {section.name!r}"
    problems = [
        f"{where} {key[:64]!r}: cannot be changed over the broker; it can be: {', '.join(CHANGEABLE)}"
        for key in settings
        if key not in CHANGEABLE
    ]
    table: dict[str, Any] = {"name": section.name, "bundle": section.bundle}
    for key, value in settings.items():
        before = getattr(section, key, None)
        is_table = isinstance(before, msgspec.Struct) and isinstance(value, Mapping)
        table[key] = {**msgspec.to_builtins(before), **value} if is_table else value
    if not problems:
        good = read_table(table, where, StreamSection, problems)
        for key in ("name", "bundle"):
            good.pop(key, None)
        if not problems:
            given = {
                field.name: getattr(section, field.name)
                for field in msgspec.structs.fields(section)
                if getattr(section, field.name) != field.default
            }
            problems = [f"{where} {text}" for text in stream_problems({**given, **good})]
    if problems:
        raise ConfigError(*problems)
    return msgspec.structs.replace(section, **good)
