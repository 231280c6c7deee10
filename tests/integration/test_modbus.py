"""Readings of Modbus devices, through the real agent and pymodbus's own server, killed and started again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Agent, Broker, Subscriber, free_port, run_tool, wait_until, write_config

SERVER = """
import asyncio, struct, sys
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

def words(value):
    return list(struct.unpack(">2H", struct.pack(">f", value)))

async def main(port, value):
    # One more register than is written, because a block of this library begins at 1.
    block = ModbusSequentialDataBlock(1, [*words(float(value)), *words(0.5)[::-1], 0b100])
    devices = {1: ModbusDeviceContext(hr=block)}
    context, address = ModbusServerContext(devices=devices, single=False), ("127.0.0.1", int(port))
    server = ModbusTcpServer(context, address=address, ignore_missing_devices=True)
    await server.serve_forever()

asyncio.run(main(*sys.argv[1:]))
"""
TABLE = """
[stream.modbus]
interval_s = 0.1
timeout_s = 0.3
units = { pump1 = 1, pump2 = 2 }
[stream.modbus.points]
c1 = { address = 0, type = "float32" }
c2 = { address = 2, type = "float32", word_order = "little" }
"""


@contextmanager
def modbus_server(port: int, value: float) -> Iterator[subprocess.Popen[bytes]]:
    """A server with one device, 1; another one never answers."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(value)]) as process:
        try:
            yield process
        finally:
            process.kill()


def configure(folder: Path, broker: Broker, bundle: Path, port: int, table: str = TABLE) -> Path:
    config = write_config(folder, broker.port, {"pump": bundle})
    text = config.read_text().replace('topic = "sensors/+/pump"', f'input = "modbus://127.0.0.1:{port}"')
    config.write_text(text + table)
    return config


def test_devices_are_asked_and_their_values_scored(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """One that never answers holds up no other; a server that is killed and comes back is told, and asked again."""
    port = free_port()
    with Agent(configure(tmp_path, broker, bundle, port)) as agent:
        subscriber.wait_online()
        with modbus_server(port, 0.5):
            wait_until(lambda: subscriber.stream("pump").get("scored", 0) >= 5)
            began_s, before = time.monotonic(), subscriber.stream("pump")["scored"]
            wait_until(lambda: subscriber.stream("pump")["scored"] >= before + 20)
            assert time.monotonic() - began_s < 15  # 2 s, were there no pump2
            wait_until(lambda: list(subscriber.stream("pump")["devices"]["silent"]) == ["pump2"])
        wait_until(lambda: set(subscriber.stream("pump")["devices"]["silent"]) == {"pump1", "pump2"})
        assert f"127.0.0.1:{port}" in subscriber.stream("pump")["devices"]["silent"]["pump1"]
        with modbus_server(port, 4.0):
            wait_until(lambda: subscriber.alerts)
            assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("pump1", 16.25)
            wait_until(lambda: list(subscriber.stream("pump")["devices"]["silent"]) == ["pump2"])
            agent.stop()
    log = agent.log.read_text()
    assert "pymodbus" not in log
    assert log.count("device does not answer asset=pump2") == 1
    assert "device answers again asset=pump1" in log


def test_what_does_not_fit_is_told_before_the_start(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """A point that is no channel, no points, a bit that is not there, a wrong address."""
    for table, told in (
        (TABLE.replace("c2 =", "c9 ="), "points.c9: the bundle has no such channel; it has c1, c2"),
        ("", "points: nothing is asked for c1, c2"),
        (TABLE.partition("c2 =")[0], "points: nothing is asked for c2"),
        (TABLE.replace('type = "float32" }', "bit = 16 }", 1), "bit = 16: a uint16 has 16 bits"),
        (TABLE.replace("address = 0", "address = 70000"), "address = 70000: expected an integer from 0 to 65535"),
        (TABLE.replace("pump1 = 1", '"a/b" = 1'), "units 'a/b': no asset can be called so"),
    ):
        result = run_tool("edge-agent", "check", "--config", configure(tmp_path, broker, bundle, 1502, table))
        assert result.returncode == 78, (table, result.stderr)
        assert told in result.stderr
