"""Readings of Modbus devices over TCP, by pymodbus."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from edge_agent.errors import MissingExtraError
from edge_agent.setting_types import Seconds
from edge_agent.sources.polled import Reading

__all__ = ["ModbusPoller", "ModbusSettings", "PointSettings", "PointType", "Table", "modbus_address"]

SCHEME = "modbus"
_PORT = 502
_MOST_REGISTERS, _MOST_BITS = 125, 2000
"""In one request, by the protocol."""
_GAP = 16
"""Registers between two points that are read with them, rather than asked for apart."""
_ILLEGAL_ADDRESS = 2

Unit = Annotated[int, Meta(ge=0, le=255, description="an integer from 0 to 255")]


class Table(StrEnum):
    """Which of a device's four tables."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def has_bits(self) -> bool:
        """Whether its entries are bits, and not registers of 16."""
        return self in (Table.COIL, Table.DISCRETE)


class PointType(StrEnum):
    """What registers mean."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


_FORMS = {
    PointType.INT16: "h",
    PointType.UINT16: "H",
    PointType.INT32: "i",
    PointType.UINT32: "I",
    PointType.INT64: "q",
    PointType.UINT64: "Q",
    PointType.FLOAT32: "f",
    PointType.FLOAT64: "d",
}


class WordOrder(StrEnum):
    """Which register of several comes first."""

    BIG = "big"
    LITTLE = "little"


class PointSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of `[stream.modbus.points]`."""

    address: Annotated[int, Meta(ge=0, le=65535, description="an integer from 0 to 65535")]
    """The first register, as it is in a request: 40001 of a manual is 0 of `holding`."""
    table: Table = Table.HOLDING
    type: PointType = PointType.UINT16
    bit: Annotated[int, Meta(ge=0, le=63, description="an integer from 0 to 63")] | None = None
    """One bit of a word of status, 0 is the least significant one."""
    word_order: WordOrder = WordOrder.BIG
    scale: float = 1.0
    offset: float = 0.0

    @property
    def count(self) -> int:
        """How many registers, or bits of `coil` and `discrete`, it takes."""
        return 1 if self.table.has_bits else struct.calcsize(_FORMS[self.type]) // 2

    def value_of(self, found: Sequence[int]) -> float | None:
        """The value of its registers or bits; None if it is not a number."""
        if self.table.has_bits:
            return float(bool(found[0]))
        words = found if self.word_order is WordOrder.BIG else found[::-1]
        raw = struct.pack(f">{len(words)}H", *words)
        if self.bit is not None:
            return float(int.from_bytes(raw, "big") >> self.bit & 1)
        (value,) = struct.unpack(f">{_FORMS[self.type]}", raw)
        scaled = value * self.scale + self.offset
        return scaled if abs(scaled) < float("inf") else None


class ModbusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[stream.modbus]`: what is asked of the devices behind `input = "modbus://HOST:PORT"`."""

    interval_s: Seconds = 1.0
    """Time from one round to the next."""
    timeout_s: Seconds = 1.0
    """How long an answer is waited for."""
    units: dict[str, Unit] = {}
    """By asset, the number of its device; `default = 1` if not given."""
    points: dict[str, PointSettings] = {}
    """By channel."""


def modbus_address(place: str) -> tuple[str, int]:
    """Host and port of `modbus://HOST:PORT`.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(place)
    if parts.scheme != SCHEME or not parts.hostname or parts.path not in ("", "/") or parts.username:
        raise ValueError(f"expected modbus://HOST or modbus://HOST:PORT, found {place!r}")
    return parts.hostname, parts.port or _PORT


class ModbusPoller:
    """Asks the devices at one address, one after the other. See `Poller`.

    Args:
        place: `modbus://HOST:PORT`.
        settings: what is asked.

    Raises:
        MissingExtraError: pymodbus is not installed.
    """

    def __init__(self, place: str, settings: ModbusSettings) -> None:
        try:
            from pymodbus.client import ModbusTcpClient
        except ImportError as exc:
            raise MissingExtraError("pymodbus", "modbus") from exc
        # What it has to say of a device that is away, again and again, is told once.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        host, port = modbus_address(place)
        self.interval_s = settings.interval_s
        self._place = f"{host}:{port}"
        self._units: Mapping[str, int] = settings.units or {"default": 1}
        self._points = settings.points
        self._blocks = _blocks(settings.points)
        self._apart: set[str] = set()
        """Assets of which blocks cannot be read, because the device has nothing between its points."""
        # Of its own retries each costs a timeout, in which no other device is asked.
        self._client: Any = ModbusTcpClient(host, port=port, timeout=settings.timeout_s, retries=0)

    def assets(self) -> list[str]:
        """See `Poller.assets`."""
        return list(self._units)

    def ask(self, asset: str) -> Reading | None:
        """See `Poller.ask`."""
        from pymodbus.exceptions import ModbusException

        if not self._client.connected and not self._client.connect():
            raise OSError(f"{self._place}: cannot be connected to")
        at_s = time.time()
        try:
            values = self._values(asset)
        except ModbusException as exc:
            # What comes late would be taken for the answer to the next request.
            self._client.close()
            raise OSError(f"{self._place}: {exc}") from exc
        return (asset, at_s, values) if any(value is not None for value in values.values()) else None

    def close(self) -> None:
        """See `Poller.close`."""
        self._client.close()

    def _values(self, asset: str) -> dict[str, float | None]:
        blocks = self._blocks if asset not in self._apart else [[name] for name in self._points]
        values: dict[str, float | None] = {}
        for names in blocks:
            first = self._points[names[0]]
            last = self._points[names[-1]]
            found = self._read(asset, first.table, first.address, last.address + last.count - first.address)
            if found is None:
                if len(names) > 1:
                    self._apart.add(asset)
                    return self._values(asset)
                raise OSError(f"{self._place}: has no {first.table} {first.address}, for {names[0]}")
            for name in names:
                point = self._points[name]
                at = point.address - first.address
                values[name] = point.value_of(found[at : at + point.count])
        return values

    def _read(self, asset: str, table: Table, address: int, count: int) -> list[int] | None:
        """Registers or bits; None if the device has not all of them."""
        ask = {
            Table.HOLDING: self._client.read_holding_registers,
            Table.INPUT: self._client.read_input_registers,
            Table.COIL: self._client.read_coils,
            Table.DISCRETE: self._client.read_discrete_inputs,
        }[table]
        answer = ask(address, count=count, device_id=self._units[asset])
        if answer.isError():
            if getattr(answer, "exception_code", None) == _ILLEGAL_ADDRESS:
                return None
            raise OSError(f"{self._place}, unit {self._units[asset]}: {answer}")
        found = answer.bits if table.has_bits else answer.registers
        if len(found) < count:
            raise OSError(f"{self._place}, unit {self._units[asset]}: {len(found)} of {count} {table} came")
        return list(found[:count])


def _blocks(points: Mapping[str, PointSettings]) -> list[list[str]]:
    """The points that are read at once, by address."""
    blocks: list[list[str]] = []
    for name in sorted(points, key=lambda each: (points[each].table, points[each].address)):
        point = points[name]
        most = _MOST_BITS if point.table.has_bits else _MOST_REGISTERS
        if blocks:
            first, last = points[blocks[-1][0]], points[blocks[-1][-1]]
            is_near = point.address <= last.address + last.count + _GAP
            if point.table is first.table and is_near and point.address + point.count - first.address <= most:
                blocks[-1].append(name)
                continue
        blocks.append([name])
    return blocks
