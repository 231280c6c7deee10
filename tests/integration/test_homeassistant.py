"""`[homeassistant] discovery`: what a broker retains, held against the documented schema."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config
from telling import Neighbour

DISCOVERY = '[publish]\nscores = "0.5s"\n[homeassistant]\ndiscovery = true\n'
SHARED = {"availability", "availability_mode", "state_topic", "command_topic", "qos", "encoding"}
DEVICE = {
    "configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name",
    "serial_number", "suggested_area", "sw_version", "via_device",
}  # fmt: skip
ORIGIN = {"name", "sw_version", "support_url"}
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
ENTITY = {"platform", "unique_id", "name", "state_topic", "value_template", "device_class", "entity_category"}
PLATFORMS = {
    "binary_sensor": ENTITY | {"payload_on", "payload_off", "expire_after", "off_delay"},
    "sensor": ENTITY | {"state_class", "unit_of_measurement", "suggested_display_precision", "expire_after"},
}
"""The keys that https://www.home-assistant.io/integrations/mqtt/ documents for each place, of those that make sense."""


class Retained(Neighbour):
    """What a broker retains, and what comes later, on some trees."""

    def __init__(self, port: int, *filters: str) -> None:
        self.messages: dict[str, bytes] = {}
        self.came: list[str] = []
        """Topics of all messages."""
        super().__init__(port, self._take, *filters)

    def _take(self, topic: str, payload: bytes) -> None:
        self.came.append(topic)
        if payload:
            self.messages[topic] = payload
        else:
            self.messages.pop(topic, None)

    def devices(self) -> dict[str, dict[str, Any]]:
        """By name, what is announced."""
        found = [msgspec.json.decode(raw) for topic, raw in self.messages.items() if topic.endswith("/config")]
        return {each["device"]["name"]: each for each in found}

    def problems(self) -> dict[str, bytes]:
        """By the device's name, what is retained on the topic that it reads its problem from."""
        topics = {name: self._topic_of(each) for name, each in self.devices().items()}
        return {name: self.messages[topic] for name, topic in topics.items() if topic in self.messages}

    @staticmethod
    def _topic_of(device: dict[str, Any]) -> str:
        return str(device["components"].get("problem", {}).get("state_topic"))


def listening(broker: Broker, prefix: str = "homeassistant") -> Retained:
    return Retained(broker.port, f"{prefix}/#")


def check(topic: str, payload: dict[str, Any]) -> None:
    """See that a message has what device discovery asks for, and no key that it refuses."""
    assert re.fullmatch(r"[^/]+/device/[a-zA-Z0-9_-]+/config", topic)
    assert payload.keys() <= SHARED | {"device", "origin", "components"}
    assert payload["device"].keys() <= DEVICE
    assert payload["device"]["identifiers"]
    assert payload["origin"].keys() <= ORIGIN
    assert payload["origin"]["name"]
    for each in payload.get("availability", ()):
        assert "topic" in each
        assert each.keys() <= AVAILABILITY
    assert payload["components"]
    for component in payload["components"].values():
        assert {"platform", "unique_id", "state_topic"} <= component.keys()
        assert component.keys() <= PLATFORMS[component["platform"]]
        assert not {*"+#"} & {*component["state_topic"]}


def test_assets_are_announced_by_the_documented_schema(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """With ids that differ wherever names do, also where both become the same letters."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)
    with listening(broker) as retained, Agent(config):
        subscriber.wait_online()
        for asset in ("a1", "Füllstand 2", "Fullstand_2", "a.1", "a_1", '"}}{{ x'):
            sender.send(f"sensors/{asset}/pump", {"c1": 1.0, "c2": 0.0})
        wait_until(lambda: len(retained.devices()) == 8)
        wait_until(lambda: len(retained.problems()) == 7)
    devices = retained.devices()
    for topic, raw in retained.messages.items():
        if topic.endswith("/config"):
            check(topic, msgspec.json.decode(raw))
    ids = [entity["unique_id"] for device in devices.values() for entity in device["components"].values()]
    assert len(ids) == len(set(ids)) == 1 + 1 + 6 * 3
    agent = devices["edge-agent g1"]
    assert agent["components"]["connectivity"]["state_topic"] == "edge/g1/status"
    assert "availability" not in agent
    pump = devices["pump a1"]
    assert pump["device"]["via_device"] == agent["device"]["identifiers"][0]
    assert pump["availability"] == [{"topic": "edge/g1/status", "value_template": "{{ value_json.state }}"}]
    assert pump["components"]["score"]["state_topic"] == "edge/g1/scores/pump/a1"
    assert pump["components"]["limit"]["value_template"] == "{{ value_json.threshold }}"
    assert {*devices["pump stream"]["components"]} == {"problem"}
    assert set(retained.problems().values()) == {b"OFF"}


def test_a_problem_is_there_from_the_raise_to_the_clear_and_over_a_restart(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Retained, so that who starts in between knows; and nothing is told of what is muted."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)
    with Agent(config) as agent:
        subscriber.wait_online()
        run_tool("edge-agent", "mute", "pump", "b1", "--for", "1h", "--config", config)
        wait_until(lambda: subscriber.muted)
        for asset in ("a1", "b1"):
            sender.send(f"sensors/{asset}/pump", {"c1": 9.0, "c2": 0.0})
        with listening(broker) as retained:
            wait_until(lambda: retained.problems() == {"pump a1": b"ON", "pump b1": b"OFF", "pump stream": b"OFF"})
        agent.kill()
        agent.start()
        with listening(broker) as retained:
            wait_until(lambda: max(Counter(retained.came).values(), default=0) > 1)
            assert retained.problems()["pump a1"] == b"ON"
            sender.send("sensors/a1/pump", {"c1": 0.0, "c2": 0.0})
            wait_until(lambda: retained.problems()["pump a1"] == b"OFF")


def test_an_asset_that_is_called_as_the_stream_is_has_its_problem_there(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Its alerts have the topic of the stream's own, so one device tells of both."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)
    with listening(broker) as retained, Agent(config):
        subscriber.wait_online()
        sender.send("sensors/stream/pump", {"c1": 9.0, "c2": 0.0})
        wait_until(lambda: retained.problems() == {"pump stream": b"ON"})
        sender.send("sensors/stream/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: retained.problems() == {"pump stream": b"OFF"})


def test_what_is_forgotten_or_no_longer_configured_is_removed(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """By an empty retained message, also by the run after the one that announced it."""
    options: dict[str, Any] = {"extra": DISCOVERY, "stream": "idle_s = 2"}
    config = write_config(tmp_path, broker.port, {"pump": bundle, "fan": bundle}, **options)
    with listening(broker) as retained:
        with Agent(config) as agent:
            subscriber.wait_online()
            sender.send("sensors/a1/pump", {"c1": 0.0, "c2": 0.0})
            wait_until(lambda: "pump a1" in retained.devices())
            wait_until(lambda: "pump a1" not in retained.devices())
            sender.send("sensors/a2/fan", {"c1": 9.0, "c2": 0.0})  # with an alert it is not forgotten
            wait_until(lambda: retained.problems().get("fan a2") == b"ON")
            agent.kill()
        assert {*retained.devices()} == {"edge-agent g1", "pump stream", "fan stream", "fan a2"}
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, **options)):
            wait_until(lambda: {*retained.devices()} == {"edge-agent g1", "pump stream"})
            wait_until(lambda: {*retained.problems()} == {"pump stream"})
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
            wait_until(lambda: not retained.messages)


def test_what_was_announced_just_before_a_kill_is_known_to_the_next_run(
    tmp_path: Path, broker: Broker, sender: Sender
) -> None:
    """Though readings that raise nothing are held for some of the usual gaps between them."""
    bundle = write_bundle(tmp_path / "window-1.0.0.edge", window=12)
    with listening(broker) as retained:
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)) as agent:
            wait_until(lambda: "pump stream" in retained.devices())
            sender.send("sensors/a1/pump", {"c1": 0.0, "c2": 0.0})
            wait_until(lambda: "pump a1" in retained.devices())
            sender.send("sensors/a2/pump", {"c1": 0.0, "c2": 0.0})
            wait_until(lambda: "pump a2" in retained.devices())
            agent.kill()
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
            wait_until(lambda: not retained.messages)


def test_another_prefix_moves_all_that_was_announced(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """What an earlier run announced elsewhere is removed there."""
    with listening(broker) as before, listening(broker, "ha") as after:
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)):
            wait_until(lambda: "pump stream" in before.devices())
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=f'{DISCOVERY}prefix = "ha"\n')):
            wait_until(lambda: "pump stream" in after.devices())
            wait_until(lambda: not before.messages)


def test_an_agent_that_is_retired_takes_everything_with_it(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """As the journal knows it, though the agent does not run."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=DISCOVERY)
    with listening(broker) as retained, Agent(config) as agent:
        wait_until(lambda: retained.devices() and retained.problems())
        assert agent.stop() == 0
        assert run_tool("edge-agent", "retire", "--config", config).returncode == 0
        wait_until(lambda: not retained.messages)


def test_a_broker_that_forgot_is_told_again_and_names_without_end_are_not(tmp_path: Path, bundle: Path) -> None:
    """On each connection; and of so many assets at most, those that were there first."""
    with Broker(tmp_path / "broker", persistence=False) as broker, Subscriber(broker.port) as subscriber:
        extra = DISCOVERY + 'prefix = "ha/plant"\nmost_assets = 3\n'
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra)):
            subscriber.wait_online()
            with Sender(broker.port) as sender:
                for number in range(30):
                    sender.send(f"sensors/a{number}/pump", {"c1": 0.0, "c2": 0.0})
                sender.drain()
            expected = {"edge-agent g1", "pump stream", "pump a0", "pump a1", "pump a2"}
            with listening(broker, "ha/plant") as retained:
                wait_until(lambda: {*retained.devices()} == expected)
            broker.stop()
            broker.start()
            with listening(broker, "ha/plant") as retained:
                wait_until(lambda: {*retained.devices()} == expected)
                wait_until(lambda: len(retained.problems()) == 4)
