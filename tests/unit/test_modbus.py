"""Modbus: what registers mean, how they are asked for, and devices that do not answer."""

from __future__ import annotations

import struct
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.inputs import input_problems
from edge_agent.sources.modbus import ModbusSettings, PointSettings, PointType, Table, _blocks, modbus_address
from edge_agent.sources.polled import Asked, PolledInput, Reading

FORMS = {
    "int16": ("h", -(2**15), 2**15 - 1),
    "uint16": ("H", 0, 2**16 - 1),
    "int32": ("i", -(2**31), 2**31 - 1),
    "uint32": ("I", 0, 2**32 - 1),
    "int64": ("q", -(2**53), 2**53),
    "uint64": ("Q", 0, 2**53),
}


def point(**keys: Any) -> PointSettings:
    return msgspec.convert({"address": 0, **keys}, PointSettings)


@given(st.data(), st.sampled_from(sorted(FORMS)), st.sampled_from(["big", "little"]))
def test_registers_become_the_number_that_was_written(data: st.DataObject, kind: str, order: str) -> None:
    """Of every type, in both orders of words."""
    form, least, most = FORMS[kind]
    value = data.draw(st.integers(least, most))
    words = list(struct.unpack(f">{struct.calcsize(form) // 2}H", struct.pack(f">{form}", value)))
    asked = point(type=kind, word_order=order)
    assert asked.count == len(words)
    assert asked.value_of(words if order == "big" else words[::-1]) == value


def test_floats_scales_and_bits() -> None:
    """A float of 32 bits; a bit of a word by its place, whatever the library's own order of bits is; no number."""
    words = list(struct.unpack(">2H", struct.pack(">f", 4.1)))
    assert point(type="float32", scale=2, offset=1).value_of(words) == pytest.approx(9.2)
    assert [point(bit=bit).value_of([0b1000_0000_0000_0010]) for bit in (0, 1, 8, 15)] == [0, 1, 0, 1]
    assert point(type="uint32", bit=16).value_of([1, 0]) == 1
    assert point(type="float32").value_of([0x7FC0, 0]) is None
    assert point(type="float32").value_of([0x7F80, 0]) is None
    assert point(table="coil").value_of([1]) == 1


def test_points_that_are_near_are_asked_for_at_once() -> None:
    """Of one table, 125 registers at most, without many between them that nobody wants."""
    points = {
        "a": point(address=10, type="float32"),
        "b": point(address=0),
        "c": point(address=200),
        "d": point(address=5, table="input"),
        "e": point(address=300, type="int64"),
        "f": point(address=0, table="coil"),
    }
    blocks = _blocks(points)
    assert sorted(map(tuple, blocks)) == [("b", "a"), ("c",), ("d",), ("e",), ("f",)]
    wide = {f"c{number}": point(address=number) for number in range(300)}
    assert [len(block) for block in _blocks(wide)] == [125, 125, 50]


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("modbus://10.0.0.7", ("10.0.0.7", 502)),
        ("modbus://plc:1502", ("plc", 1502)),
        ("modbus://[::1]:5020", ("::1", 5020)),
    ],
)
def test_an_address_is_a_host_and_a_port(place: str, address: tuple[str, int]) -> None:
    """502 is usual."""
    assert modbus_address(place) == address


@pytest.mark.parametrize("place", ["modbus://", "modbus://a/b", "http://a", "modbus://u@a", "modbus://a:x"])
def test_what_is_no_address_is_refused(place: str) -> None:
    """With what is expected."""
    with pytest.raises(ValueError, match=r"expected modbus|Port"):
        modbus_address(place)


def test_a_device_that_is_silent_is_left_alone_for_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """So that it holds up no other; it is told once, and once when it answers again."""
    now = [0.0]
    asked = Asked("pump1", lambda: now[0])
    pauses = []
    for _ in range(9):
        assert asked.is_due
        asked.failed("no answer", 1.0)
        before = now[0]
        while not asked.is_due:
            now[0] += 0.5
        pauses.append(now[0] - before)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    asked.answered()
    assert asked.is_due
    assert [record.message.split(" asset")[0] for record in caplog.records] == [
        "device does not answer",
        "device answers again",
    ]


def test_settings_are_as_the_table_has_them() -> None:
    """By channel and by asset."""
    text = b'{"units": {"pump1": 1}, "points": {"pressure": {"address": 3, "table": "input", "type": "float32"}}}'
    settings = msgspec.json.decode(text, type=ModbusSettings)
    assert settings.points["pressure"].type is PointType.FLOAT32
    assert settings.points["pressure"].table is Table.INPUT


class Broken:
    """A poller with a fault of its own, and then none."""

    interval_s = 0.01

    def __init__(self) -> None:
        self.rounds = 0

    def assets(self) -> list[str]:
        return ["a"]

    def ask(self, asset: str) -> Reading | None:
        self.rounds += 1
        if self.rounds < 3:
            raise struct.error
        return asset, 5.0, {"p": 1.0}

    def close(self) -> None:
        pass


def test_an_error_that_nobody_expects_does_not_end_the_readings() -> None:
    """Else the agent would run, and never score again."""
    source = PolledInput("s", Broken())
    source.start()
    try:
        limit = time.monotonic() + 10
        while not (found := source.take(10)):
            assert time.monotonic() < limit
            time.sleep(0.01)  # until the third round
    finally:
        source.close()
    assert found[0].topic.name.endswith("/a")


@pytest.mark.parametrize("key", [{"type": "int32"}, {"bit": 3}, {"word_order": "little"}, {"scale": 0.1}])
def test_a_key_that_bits_do_not_have_is_told(key: dict[str, Any]) -> None:
    """Who writes it takes the table for one of registers."""
    settings = ModbusSettings(points={"door": point(table="coil", **key), "run": point(table="discrete")})
    (problem,) = input_problems({"input": "modbus://plc", "modbus": settings})
    assert problem == f"[modbus] points.door {next(iter(key))}: has no effect, coil has bits and no registers"
