"""What a stream's `input` is: a file, a pipe, or a device that is asked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edge_agent.config.settings import StreamSection
from edge_agent.errors import ConfigError
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.sources.modbus import SCHEME, ModbusPoller, ModbusSettings, modbus_address
from edge_agent.sources.polled import PolledInput
from edge_agent.sources.text_input import TextInput

__all__ = ["input_problems", "is_device", "open_input"]


def is_device(section: StreamSection) -> bool:
    """True where the input is asked for values, and no file or pipe."""
    return section.input is not None and section.input.startswith(f"{SCHEME}://")


def open_input(section: StreamSection, channels: Collection[str]) -> TextInput | PolledInput:
    """Open a stream's input.

    Args:
        section: the stream's settings, with an `input`.
        channels: the bundle's.

    Raises:
        ConfigError: the points of a device are not the bundle's channels.
        DataError: a file cannot be opened.
        MissingExtraError: what speaks to the device is not installed.
    """
    place = str(section.input)
    if not is_device(section):
        return TextInput(section.name, place)
    unknown = [name for name in section.modbus.points if name not in channels]
    if unknown or not section.modbus.points:
        what = f"points.{unknown[0]}: the bundle has no such channel" if unknown else "points: none are given"
        raise ConfigError(f"[[stream]] {section.name!r} [modbus] {what}; it has {', '.join(channels)}")
    return PolledInput(section.name, ModbusPoller(place, section.modbus))


def input_problems(good: dict[str, Any]) -> list[str]:
    """What is wrong with `input` and the table of its device together."""
    place, settings = str(good.get("input") or ""), good.get("modbus", ModbusSettings())
    if "://" not in place:
        is_given = settings != ModbusSettings()
        return ['[modbus]: has no effect without input = "modbus://HOST:PORT"'] if is_given else []
    try:
        modbus_address(place)
    except ValueError as exc:
        return [f"input = {place!r}: {exc}"]
    problems = [
        f"[modbus] points.{name} bit = {point.bit}: a {point.type} has {16 * point.count} bits"
        for name, point in settings.points.items()
        if point.bit is not None and not point.table.has_bits and point.bit >= 16 * point.count
    ]
    wrong = [name for name in settings.units if not can_be_asset(name)]
    return problems + [f"[modbus] units {name!r}: no asset can be called so" for name in wrong]
