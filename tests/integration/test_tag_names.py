"""The databus of Industrial Edge: names from retained metadata, through the real agent and a real broker."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from brokers import broker_named
from processes import Agent, Broker, Sender, Subscriber, tool, wait_until, write_config

DATA = "ie/d/j/simatic/v1/s7c1/dp/r/PLC1/default"
METADATA = "ie/m/j/simatic/v1/s7c1/dp"
NO_STORM = "[stream.storm]\nraises = 0"
WRITTEN = "ie/d/j/simatic/v1/s7c1/dp/r/+/default"


def metadata(**names: str) -> bytes:
    """What the connector says: which id is called how."""
    points = [{"id": each.removeprefix("id"), "name": name, "dataType": "Real"} for each, name in names.items()]
    collection = {"name": "default", "topic": DATA, "publishType": "bulk", "dataPointDefinitions": points}
    return msgspec.json.encode({"seq": 1, "connections": [{"name": "PLC1", "type": "S7", "dataPoints": [collection]}]})


def values(second: int, **found: float) -> bytes:
    """A message of values by id."""
    at = f"2025-11-21T04:40:{second:02}.000Z"
    return msgspec.json.encode(
        {"seq": second, "vals": [{"id": k.removeprefix("id"), "qc": 3, "ts": at, "val": v} for k, v in found.items()]}
    )


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_names_come_from_what_the_broker_keeps_and_change_while_running(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, protocol: str
) -> None:
    """The metadata were published before the agent was there. Retained values are none: they are of unknown age."""
    sender.send(METADATA, metadata(id101="c1", id102="c2"), retain=True)
    sender.send(DATA, values(0, id101=9.0, id102=9.0), retain=True)
    config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=f'protocol = "{protocol}"')
    text = config.read_text().replace('topic = "sensors/+/pump"', f'topic = "{WRITTEN}"\nformat = "siemens-ie"')
    config.write_text(text)
    with Agent(config) as agent:
        subscriber.wait_online()
        wait_until(lambda: subscriber.stream("pump").get("metadata") == {"known": 1, "names": 2, "changes": 0})
        sender.send(DATA, values(1, id101=3.0, id102=0.0))
        wait_until(lambda: subscriber.alerts)
        assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("PLC1", 9.0)
        assert subscriber.alerts[0].channels[0].name == "c1"
        sender.send(DATA, values(2, id101=0.0, id102=0.0))
        wait_until(lambda: len(subscriber.different) == 2)
        # What changes while the agent is away is heard at its next connection.
        agent.kill()
        sender.send(METADATA, metadata(id101="c2", id102="c1"), retain=True)
        agent.start()
        wait_until(lambda: subscriber.stream("pump").get("metadata", {}).get("changes") == 1)
        sender.send(DATA, values(3, id101=0.0, id102=4.0))
        wait_until(lambda: len(subscriber.different) == 3)
        assert subscriber.alerts[-1].channels[0].name == "c1"
        assert subscriber.stream("pump")["rejected"] == {}


@pytest.mark.parametrize("written", [WRITTEN, WRITTEN.replace("s7c1", "{any}")])
def test_names_come_from_what_rabbitmq_keeps(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, written: str
) -> None:
    """It gives retained copies to a topic in full, as that of a connector is. Behind a wildcard, that is asked for once
    values need it. Alerts go by mosquitto.
    """
    with broker_named("rabbitmq", tmp_path / "rabbitmq") as other, Sender(other.port) as sender:
        sender.send(METADATA, metadata(id101="c1", id102="c2"), retain=True)
        sender.drain()
        alerts = f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {broker.port}'
        config = write_config(tmp_path, other.port, {"pump": bundle}, mqtt=alerts)
        text = config.read_text().replace('topic = "sensors/+/pump"', f'topic = "{written}"\nformat = "siemens-ie"')
        config.write_text(text)
        with Agent(config):
            subscriber.wait_online()
            if written != WRITTEN:
                wait_until(lambda: subscriber.health.get("broker", {}).get("state") == "connected", 60)
                sender.send(DATA, values(0, id101=3.0, id102=0.0))
                wait_until(lambda: subscriber.stream("pump").get("rejected") == {"no_metadata": 1}, 60)
            wait_until(lambda: subscriber.stream("pump").get("metadata", {}).get("names") == 2, 60)
            sender.send(DATA, values(1, id101=3.0, id102=0.0))
            wait_until(lambda: subscriber.alerts)
            assert subscriber.alerts[0].channels[0].name == "c1"


def test_metadata_that_mosquitto_passes_over_are_asked_for(tmp_path: Path, bundle: Path) -> None:
    """By default it gives 1,020 retained messages to a new subscription in MQTT 3.1.1, and no word of the others."""
    connectors = [f"c{number}" for number in range(1100)]
    with (
        Broker(tmp_path / "broker", queued=1000) as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
    ):
        for name in connectors:
            said = metadata(id101="c1", id102="c2").replace(b"s7c1", name.encode())
            sender.send(METADATA.replace("s7c1", name), said, retain=True)
        sender.drain()
        config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt='protocol = "3.1.1"', stream=NO_STORM)
        topic = "ie/d/j/simatic/v1/{asset}/dp/r/PLC1/default"
        config.write_text(
            config.read_text().replace('topic = "sensors/+/pump"', f'topic = "{topic}"\nformat = "siemens-ie"')
        )
        with Agent(config):
            subscriber.wait_online()
            wait_until(lambda: subscriber.stream("pump").get("metadata", {}).get("known", 0) >= 1000, 60)
            # Not those of all: the broker would pass over what it has no room for here, too.
            for name in connectors[900:]:
                sender.send(DATA.replace("s7c1", name), values(1, id101=0.0, id102=0.0))
            wait_until(lambda: subscriber.stream("pump")["metadata"]["known"] == 1100, 60, what="all metadata")
            for name in connectors[900:]:
                sender.send(DATA.replace("s7c1", name), values(2, id101=3.0, id102=0.0))
            wait_until(lambda: len({event.asset for event in subscriber.alerts}) == 200, 60, what="an alert of each")


def test_a_recording_hears_the_names(tmp_path: Path, broker: Broker, sender: Sender) -> None:
    """Of what the broker keeps, nothing else is taken."""
    sender.send(METADATA, metadata(id101="pressure", id102="flow"), retain=True)
    sender.send(DATA, values(0, id101=9.0), retain=True)
    output = tmp_path / "normal.csv"
    asked = ("--topic", WRITTEN, "--preset", "siemens-ie", "--channels", "pressure,flow", "--rows", "1")
    command = [tool("edgetool"), "record", "-o", str(output), "--port", str(broker.port), *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.stderr.readline()  # of the metadata's topic
            sender.send(DATA, values(1, id101=4.0, id102=0.5))
            sender.send(DATA, values(9, id101=4.0, id102=0.5))
            process.communicate(timeout=30)
        finally:
            process.kill()
    assert output.read_text().splitlines() == ["time,asset,pressure,flow", "1763700001,PLC1,4,0.5"]
