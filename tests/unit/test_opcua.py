"""OPC UA: addresses, and what a status makes of a value."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.config.inputs import input_problems
from edge_agent.sources.opcua import OpcuaPoller, OpcuaSettings, opcua_address


def test_an_agent_that_asks_nobody_imports_nothing_that_asks() -> None:
    """Each start reads the settings of what may be asked."""
    listing = "import sys; import edge_agent.agent.loop; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=60, check=True)
    found = set(done.stdout.split())
    assert "edge_agent.sources.opcua" in found
    assert not found & {"asyncio", "asyncua", "pymodbus"}


def test_an_address_has_no_password_in_it() -> None:
    """It would stand in every log."""
    assert opcua_address("opc.tcp://plc:4840/x") == "opc.tcp://plc:4840/x"
    for wrong in ("opc.tcp://u:p@plc", "opc.tcp://", "http://plc"):
        with pytest.raises(ValueError, match="expected"):
            opcua_address(wrong)


@pytest.mark.parametrize(
    ("value", "status", "takes_uncertain", "expected"),
    [
        (4.1, StatusCodes.Good, True, 4.1),
        (True, StatusCodes.Good, True, 1.0),
        (7, StatusCodes.UncertainLastUsableValue, True, 7.0),
        (7, StatusCodes.UncertainLastUsableValue, False, None),
        (7, StatusCodes.BadSensorFailure, True, None),
        ("on", StatusCodes.Good, True, None),
        (math.nan, StatusCodes.Good, True, None),
        ([1.0], StatusCodes.Good, True, None),
    ],
)
def test_the_status_travels_with_the_value(
    value: Any, status: int, takes_uncertain: bool, expected: float | None
) -> None:
    """Bad is missing, uncertain is a choice; what is no number is missing, too."""
    poller = OpcuaPoller("opc.tcp://127.0.0.1:1", OpcuaSettings(uncertain=takes_uncertain))
    found = ua.DataValue(ua.Variant(value), StatusCode=ua.StatusCode(ua.UInt32(status)))
    assert poller._value_of(found) == expected
    poller.close()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"nodes": {"p": "ns=2;s={asset}.p"}}, "give assets"),
        ({"assets": ("a", "b"), "nodes": {"p": "ns=2;s=p"}}, "stand in each"),
        ({"assets": ("a/b",), "nodes": {"p": "ns=2;s={asset}.p"}}, "no asset can be called so"),
        ({"password_file": "x"}, "username: is needed"),
    ],
)
def test_a_table_that_contradicts_itself_is_told(table: dict[str, Any], told: str) -> None:
    """With its key."""
    problems = input_problems({"input": "opc.tcp://plc:4840", "opcua": OpcuaSettings(**table)})
    assert told in " ".join(problems)


def test_a_table_without_its_address_is_told() -> None:
    """And an address of neither kind."""
    assert "has no effect" in input_problems({"topic": "a/+", "opcua": OpcuaSettings()})[0]
    assert "modbus or opc.tcp" in input_problems({"input": "mqtt://x"})[0]
