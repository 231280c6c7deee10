"""What a stream's `input` is: a file, a pipe, or a device that is asked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edge_agent.bundle import Manifest
from edge_agent.config.settings import Config, StreamSection
from edge_agent.errors import ConfigError
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.sources import modbus, opcua
from edge_agent.sources.modbus import ModbusPoller, ModbusSettings, PointSettings, modbus_address
from edge_agent.sources.opcua import OpcuaPoller, OpcuaSettings, opcua_address
from edge_agent.sources.polled import PolledInput
from edge_agent.sources.text_input import TextInput

__all__ = ["extras_of", "input_problems", "is_device", "open_input"]

_TABLES = {modbus.SCHEME: "modbus", opcua.SCHEME: "opcua"}
"""By the scheme of an address, the table that says what is asked there."""


def is_device(section: StreamSection) -> bool:
    """True where the input is asked for values, and no file or pipe."""
    return "://" in (section.input or "")


def extras_of(config: Config) -> list[str]:
    """The extras of the agent that a configuration needs."""
    schemes = {str(section.input).partition("://")[0] for section in config.streams if is_device(section)}
    also = {"metrics": config.metrics.listen, "trust": config.trust.keys}
    return sorted([*(_TABLES[scheme] for scheme in schemes), *(extra for extra, asked in also.items() if asked)])


def open_input(section: StreamSection, manifest: Manifest) -> TextInput | PolledInput:
    """Open a stream's input.

    Args:
        section: the stream's settings, with an `input`.
        manifest: of its bundle.

    Raises:
        ConfigError: what a device is asked for are not the bundle's channels.
        DataError: a file cannot be opened.
        MissingExtraError: what speaks to the device is not installed.
    """
    place = str(section.input)
    if not is_device(section):
        return TextInput(section.name, place)
    if place.startswith(modbus.SCHEME):
        _check_names(section.name, "[modbus] points", section.modbus.points, manifest)
        return PolledInput(section.name, ModbusPoller(place, section.modbus))
    _check_names(section.name, "[opcua] nodes", section.opcua.nodes, manifest)
    try:
        return PolledInput(section.name, OpcuaPoller(place, section.opcua))
    except ValueError as exc:
        raise ConfigError(f"[[stream]] {section.name!r} [opcua] {exc}") from exc


def _check_names(stream: str, where: str, names: Collection[str], manifest: Manifest) -> None:
    channels = [channel.name for channel in manifest.channels]
    unknown = [name for name in names if name not in channels]
    left_out = [name for name in channels if name not in names]
    if unknown:
        what = f".{unknown[0]}: the bundle has no such channel; it has {', '.join(channels)}"
    elif left_out and not manifest.takes_missing:
        # It would never come, and so nothing would ever be scored.
        what = f": nothing is asked for {', '.join(left_out)}, without which nothing can be scored"
    elif not names:
        what = ": none are given"
    else:
        return
    raise ConfigError(f"[[stream]] {stream!r} {where}{what}")


def input_problems(good: dict[str, Any]) -> list[str]:
    """What is wrong with `input` and the table of its device together."""
    place = str(good.get("input") or "")
    scheme = place.partition("://")[0] if "://" in place else ""
    problems = [
        f'[{table}]: has no effect without input = "{other}://HOST:PORT"'
        for other, table in _TABLES.items()
        if table in good and other != scheme
    ]
    if not scheme:
        return problems
    settings = good.get("modbus", ModbusSettings())
    try:
        if scheme == modbus.SCHEME:
            modbus_address(place)
            return problems + _modbus_problems(settings)
        if scheme == opcua.SCHEME:
            opcua_address(place)
            return problems + _opcua_problems(good.get("opcua", OpcuaSettings()))
    except ValueError as exc:
        return [f"input = {place!r}: {exc}"]
    return [f"input = {place!r}: expected a file, or an address that begins with {' or '.join(_TABLES)}"]


def _modbus_problems(settings: ModbusSettings) -> list[str]:
    problems = [
        f"[modbus] points.{name} bit = {point.bit}: a {point.type} has {16 * point.count} bits"
        for name, point in settings.points.items()
        if point.bit is not None and not point.table.has_bits and point.bit >= 16 * point.count
    ]
    usual = PointSettings(address=0)
    problems += [
        f"[modbus] points.{name} {key}: has no effect, {point.table} has bits and no registers"
        for name, point in settings.points.items()
        for key in ("type", "bit", "word_order", "scale", "offset")
        if point.table.has_bits and getattr(point, key) != getattr(usual, key)
    ]
    wrong = [name for name in settings.units if not can_be_asset(name)]
    return problems + [f"[modbus] units {name!r}: no asset can be called so" for name in wrong]


def _opcua_problems(settings: OpcuaSettings) -> list[str]:
    problems = [
        f"[opcua] assets {name!r}: no asset can be called so" for name in settings.assets if not can_be_asset(name)
    ]
    has_place = ["{asset}" in node for node in settings.nodes.values()]
    if any(has_place) and not settings.assets:
        problems.append('[opcua] nodes: {asset} stands for nothing; give assets = ["Pump1", …]')
    if len(settings.assets) > 1 and not all(has_place):
        problems.append("[opcua] nodes: of several assets, so let {asset} stand in each")
    if settings.password_file is not None and settings.username is None:
        problems.append("[opcua] username: is needed beside a password")
    return problems
