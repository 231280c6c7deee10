"""The access rules that we ship, with a fleet: who may ask agents for something at the broker, and who may not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from fakes import write_bundle
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from processes import Agent, Broker, run_tool, wait_until, write_config
from simulated_agents import Behaviour, simulated
from telling import Neighbour

import edgetool
from edge_agent.sources.formats.sparkplug import rebirth_command
from edge_agent.trust import load_keys

ACL = Path(__file__).parents[2] / "docs" / "mosquitto" / "acl"
USERS = ("press-7", "press-8", "a1", "viewer", "dashboard", "operator", "homeassistant", "scada")
NOT_AUTHORIZED = 0x87


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker with these rules; the password of each user is its name."""
    with guarded_by(tmp_path, ACL) as broker:
        yield broker


@contextmanager
def guarded_by(tmp_path: Path, rules: Path) -> Iterator[Broker]:
    users = tmp_path / "users"
    users.write_text("".join(f"{user}:{user}\n" for user in USERS))
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True, timeout=30)
    for user in USERS:
        (tmp_path / f"{user}.password").write_text(user)
    with Broker(tmp_path / "broker", rules=f"password_file {users}\nacl_file {rules}\n", anonymous=False) as broker:
        yield broker


def answer_to(port: int, user: str, topic: str) -> int:
    """What the broker says to a message of a user, by MQTT 5; 0 and 16 are that it takes it."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(user, user)
    codes: list[int] = []
    client.on_publish = lambda _client, _data, _mid, code, _properties: codes.append(code.value)
    connected: list[int] = []
    client.on_connect = lambda *_: connected.append(1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_until(lambda: connected, what="the connection")
    client.publish(topic, b"{}", qos=1)
    wait_until(lambda: codes, what="the answer")
    client.disconnect()
    client.loop_stop()
    return codes[0]


@pytest.mark.parametrize(
    ("user", "topic", "may"),
    [
        ("press-7", "edge/press-7/updates/pump", True),
        ("press-7", "edge/press-7/alerts/pump/a1", True),
        ("press-7", "edge/press-7/status", True),
        ("press-7", "edge/press-7/wishes/pump/bundle", False),
        ("press-7", "edge/press-8/wishes/pump/bundle", False),
        ("press-7", "edge/press-8/updates/pump", False),
        ("press-7", "edge/press-8/status", False),
        ("press-7", "edge/bundles/00/0", False),
        ("press-7", "edge/press-7/marks/x", False),
        ("a1", "sensors/a1/pump", True),
        ("a1", "edge/press-7/wishes/pump/bundle", False),
        ("a1", "edge/bundles/00/0", False),
        ("viewer", "edge/press-7/wishes/pump/settings", False),
        ("dashboard", "edge/press-7/wishes/pump/bundle", False),
        ("dashboard", "edge/bundles/00/0", False),
        ("operator", "edge/press-7/wishes/pump/bundle", True),
        ("operator", "edge/bundles/00/0", True),
        ("operator", "edge/press-7/updates/pump", False),
        ("operator", "edge/press-7/alerts/pump/a1", False),
        ("operator", "sensors/a1/pump", False),
    ],
)
def test_operators_alone_write_wishes(guarded: Broker, user: str, topic: str, may: bool) -> None:
    """And agents in their own name only."""
    assert (answer_to(guarded.port, user, topic) != NOT_AUTHORIZED) is may


def test_a_real_agent_is_updated_under_these_rules(tmp_path: Path, guarded: Broker) -> None:
    """It reads its wishes and the pieces, and tells its steps, with nothing more than the file allows."""
    keys = edgetool.keygen(tmp_path / "plant")
    bundles = [write_bundle(tmp_path / f"square-{v}.edge", changes={"version": v}) for v in ("1.0.0", "1.1.0")]
    for bundle in bundles:
        edgetool.sign(bundle, key=keys.key)
    who = f'username = "press-7"\npassword_file = "{tmp_path / "press-7.password"}"'
    trust = f'[trust]\nkeys = ["{keys.public}"]'
    config = write_config(tmp_path, guarded.port, {"pump": bundles[0]}, agent="press-7", mqtt=who, extra=trust)
    operator = ("--username", "operator", "--password-file", tmp_path / "operator.password")
    port = ("--port", str(guarded.port))

    def told() -> bool:
        shown = run_tool("edgetool", "fleet", "status", "--json", *port, *operator)
        return '"update": {' in shown.stdout

    with Agent(config) as agent:
        wait_until(told, 60, "the agent")
        trial = ("--shadow", "readings=0,minutes=0", "--probation", "readings=0,minutes=0.01")
        to = ("--stream", "pump", "--to", "press-7", "--key", keys.key, "--waves", "100%")
        done = run_tool("edgetool", "fleet", "deploy", bundles[1], *to, *trial, *port, *operator)
        assert done.returncode == 0, done.stderr
        assert "refused" not in agent.log.read_text()


def test_neighbours_hear_an_agent_under_the_lines_for_them(tmp_path: Path) -> None:
    """Those that stand there as comments; each hears what is for it, and a wish for births comes through."""
    rules = tmp_path / "acl"
    rules.write_text(ACL.read_text().replace("\n#topic ", "\ntopic ").replace("\n#user ", "\nuser "))
    rules.chmod(0o600)
    who = f'username = "press-7"\npassword_file = "{tmp_path / "press-7.password"}"'
    extra = '[publish]\nscores = "0.3s"\n[homeassistant]\ndiscovery = true\n[sparkplug]\ngroup = "plant"\n'
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    with guarded_by(tmp_path, rules) as broker:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, agent="press-7", mqtt=who, extra=extra)
        with (
            User(broker.port, "homeassistant") as home,
            User(broker.port, "scada") as scada,
            User(broker.port, "a1") as sensor,
            Agent(config),
        ):
            wait_until(lambda: "spBv1.0/plant/NBIRTH/press-7" in scada.heard, what="the node")
            wait_until(lambda: "edge/press-7/status" in home.heard, what="the agent, which has subscribed then")
            sensor.client.publish("sensors/a1/pump", b'{"c1": 1, "c2": 0}', qos=1)
            wait_until(lambda: "spBv1.0/plant/DBIRTH/press-7/pump:a1" in scada.heard, what="the device")
            wait_until(lambda: any("_a1_" in topic and topic.endswith("/problem") for topic in home.heard))
            sensor.client.publish("sensors/a1/pump", b'{"c1": 2, "c2": 0}', qos=1)
            wait_until(lambda: "edge/press-7/scores/pump/a1" in home.heard, what="the score")
            before = scada.heard.count("spBv1.0/plant/NBIRTH/press-7")
            scada.client.publish("spBv1.0/plant/NCMD/press-7", rebirth_command(1), qos=0)
            wait_until(lambda: scada.heard.count("spBv1.0/plant/NBIRTH/press-7") > before, what="the births")
        assert sensor.heard == []
        assert answer_to(broker.port, "homeassistant", "homeassistant/device/x/config") == NOT_AUTHORIZED
        assert answer_to(broker.port, "scada", "spBv1.0/plant/NBIRTH/press-7") == NOT_AUTHORIZED
        assert answer_to(broker.port, "press-8", "spBv1.0/plant/NBIRTH/press-7") == NOT_AUTHORIZED


class User(Neighbour):
    """Asks for everything, and hears what it may."""

    def __init__(self, port: int, name: str) -> None:
        self.heard: list[str] = []
        super().__init__(port, lambda topic, _payload: self.heard.append(topic), "#", user=name)


def test_a_fleet_is_updated_under_these_rules(tmp_path: Path, guarded: Broker) -> None:
    """By the operator; whoever only looks is told that it may not."""
    keys = edgetool.keygen(tmp_path / "plant")
    bundle = write_bundle(tmp_path / "square-1.1.0.edge", changes={"version": "1.1.0"})
    edgetool.sign(bundle, key=keys.key)
    behaviour = replace(Behaviour(keys=load_keys([keys.public]), health_s=1.0), username=lambda agent: agent)

    def fleet(user: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        who = ("--username", user, "--password-file", tmp_path / f"{user}.password")
        return run_tool("edgetool", "fleet", *arguments, "--port", str(guarded.port), *who)

    deploy = ("deploy", bundle, "--stream", "pump", "--to", "press-*", "--key", keys.key, "--waves", "100%")
    with simulated(guarded.port, ["press-7", "press-8"], behaviour) as agents:
        wait_until(lambda: all(agent.published for agent in agents.agents.values()), what="the agents")
        shown = fleet("viewer", "status")
        assert (shown.returncode, "2 of 2 agents online" in shown.stdout) == (0, True)
        refused = fleet("viewer", *deploy)
        assert refused.returncode == 69
        assert "the broker refuses the message (Not authorized); may the user write there?" in refused.stderr
        done = fleet("operator", *deploy)
        assert done.returncode == 0, done.stderr
        assert {agent.streams["pump"].running["version"] for agent in agents.agents.values()} == {"1.1.0"}
