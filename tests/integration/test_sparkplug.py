"""Sparkplug B through the real agent and a real broker."""

from __future__ import annotations

import queue
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from peers import environment, install
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


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pysparkplug and what it needs."""
    return install(tmp_path_factory.mktemp("peers"))


@contextmanager
def node_of_pysparkplug(peers: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A node and its device; lines for it are its new values."""
    program = Path(__file__).parents[1] / "peers" / "sparkplug_node.py"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment(peers)}
    with subprocess.Popen([sys.executable, str(program), str(port)], **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def test_a_node_of_pysparkplug_is_asked_scored_and_missed(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, peers: Path
) -> None:
    """It was born before the agent came, and ends without a word: its broker tells of that by the node's will."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    text = config.read_text().replace(
        'topic = "sensors/+/pump"', f'topic = "{ROOT}/DDATA/node1/+"\nformat = "sparkplug-b"\nsilent_s = 3600'
    )
    config.write_text(text)
    with node_of_pysparkplug(peers, broker.port) as node, Agent(config):
        subscriber.wait_online()
        tell(node, "3.0 0.0")
        assert node.stdout is not None
        assert node.stdout.readline() == "rebirth\n"
        # The values of its birth are a reading, too.
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
        tell(node, "3.0 0.0")
        wait_until(lambda: subscriber.alerts)
        first = subscriber.alerts[0]
        assert (first.asset, first.score, first.channels[0].name) == ("pump1", 9.0, "c1")
        node.kill()
        wait_until(lambda: [alert for alert in subscriber.alerts if alert.level == "silent"])
        found = subscriber.stream("pump")
        assert found["rejected"] == {"no_birth": 1}
        # The node has left once to be born again, and once for good.
        assert found["sparkplug"] == {"known": 0, "deaths": 2, "gaps": 0, "historical": 0}


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
