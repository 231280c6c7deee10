"""Readings of an OPC UA server, through the real agent and asyncua's own server, killed and started again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Agent, Broker, Subscriber, free_port, run_tool, wait_until, write_config

SERVER = """
import asyncio, sys
from asyncua import Server, ua

async def main(port, value):
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace("plant")
    for asset in ("Pump1", "Pump2"):
        for name in ("c1", "c2"):
            node = await server.nodes.objects.add_variable(ua.NodeId(f"{asset}.{name}", space), name, float(value))
            if asset == "Pump2" and name == "c2":
                bad = ua.DataValue(ua.Variant(99.0), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure))
                await server.write_attribute_value(node.nodeid, bad)
    async with server:
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""
TABLE = """
[stream.opcua]
interval_s = 0.1
timeout_s = 1
assets = ["Pump1", "Pump2"]
[stream.opcua.nodes]
c1 = "ns=2;s={asset}.c1"
c2 = "ns=2;s={asset}.c2"
"""


@contextmanager
def opcua_server(port: int, value: float) -> Iterator[None]:
    """Two pumps with this value everywhere, but for a failed sensor of the second one."""
    command = [sys.executable, "-c", SERVER, str(port), str(value)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def configure(folder: Path, broker: Broker, bundle: Path, port: int, table: str = TABLE) -> Path:
    config = write_config(folder, broker.port, {"pump": bundle})
    text = config.read_text().replace('topic = "sensors/+/pump"', f'input = "opc.tcp://127.0.0.1:{port}"')
    config.write_text(text + table)
    return config


def test_nodes_are_read_and_scored(tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path) -> None:
    """A value that is bad is missing; a server that is killed is told once, and read again when it is back."""
    port = free_port()
    with Agent(configure(tmp_path, broker, bundle, port)) as agent:
        subscriber.wait_online()
        with opcua_server(port, 0.5):
            wait_until(lambda: subscriber.stream("pump").get("scored", 0) >= 5, 60)
            stream = subscriber.stream("pump")
            assert stream["devices"] == {"devices": 2, "silent": {}}
            assert stream["scored"] < stream["readings"]  # of Pump2, c2 has never come
        wait_until(lambda: set(subscriber.stream("pump")["devices"]["silent"]) == {"Pump1", "Pump2"}, 60)
        with opcua_server(port, 4.0):
            wait_until(lambda: subscriber.alerts, 60)
            assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("Pump1", 32.0)
            assert agent.stop() == 0
    log = agent.log.read_text()
    assert "asyncua" not in log
    assert log.count("device does not answer asset=Pump1") <= 2
    assert "device answers again asset=Pump1" in log


def test_what_does_not_fit_is_told_before_the_start(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """A node that is no channel, none at all."""
    for table, told in (
        (TABLE.replace("c2 =", "c9 ="), "[opcua] nodes.c9: the bundle has no such channel; it has c1, c2"),
        (TABLE.replace("ns=2;s={asset}.c2", "c2 of {asset}"), "nodes.c2 = 'c2 of Pump1': expected an id such as"),
        ("", "[opcua] nodes: nothing is asked for c1, c2"),
    ):
        result = run_tool("edge-agent", "check", "--config", configure(tmp_path, broker, bundle, 4840, table))
        assert result.returncode == 78
        assert told in result.stderr
