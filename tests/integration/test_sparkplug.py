"""Sparkplug B through the real agent and a real broker."""

from __future__ import annotations

import queue
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from processes import Agent, Broker, Sender, Subscriber, tool, wait_until, write_config

from edge_agent.sources.formats.sparkplug import read_payload

ROOT = "spBv1.0/plant"
AT_MS = 1_763_700_000_000


def varint(value: int) -> bytes:
    """A number of protocol buffers."""
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def message(seq: int, at_ms: int, values: dict[int, float], *, names: tuple[str, ...] = ()) -> bytes:
    """A payload of doubles by alias, with names in a birth."""
    body = b"\x08" + varint(at_ms)
    for alias, value in values.items():
        name = names[alias - 1].encode() if names else b""
        metric = (b"\x0a" + varint(len(name)) + name + b"\x20\x0a" if name else b"") + b"\x10" + varint(alias)
        metric += b"\x69" + struct.pack("<d", value)
        body += b"\x12" + varint(len(metric)) + metric
    return body + b"\x18" + varint(seq)


@pytest.fixture
def commands(broker: Broker) -> Iterator[queue.Queue[tuple[str, bytes]]]:
    """What nodes are told."""
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    ready: queue.Queue[int] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, each: heard.put((each.topic, bytes(each.payload)))
    client.on_subscribe = lambda *_: ready.put(1)
    client.connect("127.0.0.1", broker.port)
    client.subscribe(f"{ROOT}/NCMD/#")
    client.loop_start()
    ready.get(timeout=10)
    yield heard
    client.disconnect()
    client.loop_stop()


def test_a_killed_agent_understands_data_by_the_births_of_its_journal(
    tmp_path: Path,
    broker: Broker,
    subscriber: Subscriber,
    sender: Sender,
    bundle: Path,
    commands: queue.Queue[tuple[str, bytes]],
) -> None:
    """No birth comes again; a device that was never heard to be born is asked for, and scored then."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    text = config.read_text().replace(
        'topic = "sensors/+/pump"', f'topic = "{ROOT}/DDATA/node1/+"\nformat = "sparkplug-b"\nsilent_s = 3600'
    )
    config.write_text(text)
    with Agent(config) as agent:
        subscriber.wait_online()
        sender.send(f"{ROOT}/DBIRTH/node1/pump1", message(1, AT_MS, {1: 0.5, 2: 0.5}, names=("c1", "c2")))
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
        agent.kill()
        agent.start()
        sender.send(f"{ROOT}/DDATA/node1/pump1", message(2, AT_MS + 1000, {1: 3.0}))
        wait_until(lambda: subscriber.alerts)
        assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("pump1", 9.25)
        sender.send(f"{ROOT}/DDATA/node1/pump2", message(3, AT_MS + 1000, {1: 3.0}))
        topic, payload = commands.get(timeout=10)
        assert topic == f"{ROOT}/NCMD/node1"
        assert read_payload(payload).metrics[0].name == "Node Control/Rebirth"
        sender.send(f"{ROOT}/DBIRTH/node1/pump2", message(4, AT_MS + 2000, {1: 4.0, 2: 0.0}, names=("c1", "c2")))
        wait_until(lambda: len(subscriber.alerts) == 2)
        assert (subscriber.alerts[1].asset, subscriber.alerts[1].score) == ("pump2", 16.0)
        sender.send(f"{ROOT}/NDEATH/node1", b"")
        wait_until(lambda: subscriber.stream("pump").get("sparkplug", {}).get("deaths") == 1)
        assert subscriber.stream("pump")["rejected"] == {"no_birth": 1}
        # An hour of silence is not waited for, since they have said it: both are told as one.
        wait_until(lambda: [alert for alert in subscriber.alerts if alert.level == "silent"])


def test_a_recording_asks_devices_that_were_born_before(
    tmp_path: Path, broker: Broker, sender: Sender, commands: queue.Queue[tuple[str, bytes]]
) -> None:
    """And writes what they say then."""
    output = tmp_path / "normal.csv"
    asked = ("--topic", f"{ROOT}/DDATA/node1/+", "--preset", "sparkplug-b", "--channels", "c1,c2", "--rows", "1")
    command = [tool("edgetool"), "record", "-o", str(output), "--port", str(broker.port), *asked]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.stderr.readline()  # of the births' topic
            sender.send(f"{ROOT}/DDATA/node1/pump1", message(2, AT_MS, {1: 3.0}))
            assert commands.get(timeout=20)[0] == f"{ROOT}/NCMD/node1"
            sender.send(f"{ROOT}/DBIRTH/node1/pump1", message(3, AT_MS, {1: 3.0, 2: 0.5}, names=("c1", "c2")))
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert output.read_text().splitlines() == ["time,asset,c1,c2", "1763700000,pump1,3,0.5"]


def test_a_recording_hears_births(tmp_path: Path, broker: Broker, sender: Sender) -> None:
    """Data name their metrics by alias; the topic that is given is that of data."""
    output = tmp_path / "normal.csv"
    asked = [
        "--topic",
        f"{ROOT}/DDATA/node1/+",
        "--preset",
        "sparkplug-b",
        "--channels",
        "pressure,flow",
        "--rows",
        "2",
    ]
    command = [tool("edgetool"), "record", "-o", str(output), "--port", str(broker.port), *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("recording ")
            names = ("pressure", "flow")
            sender.send(f"{ROOT}/DBIRTH/node1/pump1", message(1, AT_MS, {1: 4.0, 2: 0.5}, names=names))
            sender.send(f"{ROOT}/DDATA/node1/pump1", message(2, AT_MS + 1000, {1: 5.0}))
            process.communicate(timeout=30)
        finally:
            process.kill()
    rows = ["time,asset,pressure,flow", "1763700000,pump1,4,0.5", "1763700001,pump1,5,"]
    assert output.read_text().splitlines() == rows
