"""The agent as a process beside a real broker."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest
from broker import demo_broker
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config


def test_an_anomaly_is_raised_once_and_cleared_once(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """From readings on a topic to events on another."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        for number, value in enumerate([0.1, 4.0, 4.5, 2.5, 0.1]):
            sender.send("sensors/a1/pump", {"time": 1763700000.0 + number, "c1": value, "c2": 0.0})
        wait_until(lambda: len(subscriber.alerts) == 2)
        wait_until(lambda: subscriber.stream("pump").get("scored") == 5)
    raised, cleared = subscriber.alerts
    assert (raised.event, raised.asset, raised.score, raised.time) == ("raise", "a1", 16.0, "2025-11-21T04:40:01.000Z")
    assert (cleared.event, cleared.id, cleared.since) == ("clear", raised.id, raised.time)
    assert cleared.time == "2025-11-21T04:40:04.000Z"
    assert raised.channels[0].name == "c1"
    assert subscriber.stream("pump")["provider"] == "cpu"


MANY_FILES = """
import os, resource, sys
from edge_agent import cli
from edge_agent.agent import loop
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
run = loop.Agent.run
def crowded(self):
    self.files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    run(self)
loop.Agent.run = crowded
sys.exit(cli.main())
"""


def test_descriptors_beyond_a_thousand_are_waited_for(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The broker's socket, the loop's own and an input have numbers above 1,023, which `select` cannot take."""
    config = write_config(tmp_path, broker.port, {"pump": bundle, "fan": bundle})
    os.mkfifo(tmp_path / "lines")
    text = config.read_text().replace('topic = "sensors/+/fan"', f'input = "{tmp_path}/lines"')
    config.write_text(text)
    with Agent(config, command=[sys.executable, "-c", MANY_FILES]) as agent:
        subscriber.wait_online()
        (tmp_path / "lines").write_text('{"asset":"f1","c1":9,"c2":0}\n')
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
        wait_until(lambda: {event.asset for event in subscriber.alerts} == {"a1", "f1"})
        assert agent.stop() == 0


def test_a_backlog_of_large_messages_takes_little_memory(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender
) -> None:
    """300,000 readings in 30 messages, each of which ends a window: 540 MB if all were scored at once."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", window=50, channels=9)
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        agent.stop()
        for message in range(30):
            rows = [{"time": 1e9 + 10_000 * message + row, "values": [1] * 9} for row in range(10_000)]
            sender.send("sensors/a1/pump", msgspec.json.encode(rows))
        sender.drain()
        agent.start()
        wait_until(lambda: subscriber.stream("pump").get("scored") == 300_000 - 49, timeout_s=60)
        assert agent.memory_mb("VmHWM") < 150


def test_equal_readings_of_a_new_session_are_scored(tmp_path: Path, bundle: Path) -> None:
    """A broker that lost ours begins with packet identifier 1 again, so what it sends again looks like old messages."""
    with (
        Broker(tmp_path / "broker", persistence=False) as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent,
    ):
        subscriber.wait_online()
        with Sender(broker.port) as sender:
            # The alert brings the keys of these messages into the journal.
            for value in (0, 0, 0, 9):
                sender.send("sensors/a1/pump", {"c1": value, "c2": 0})
            wait_until(lambda: subscriber.count("pump", "scored") == 4)
        broker.stop(signal.SIGKILL)
        broker.start()
        wait_until(lambda: subscriber.health["connects"] == 2, 60)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)
        with Sender(broker.port, "other") as sender:
            for value in (0, 0, 0, 9):
                sender.send("sensors/a1/pump", {"c1": value, "c2": 0})
            sender.drain()
            time.sleep(0.5)  # until they are on their way to the agent
        agent.kill()
        agent.start()
        wait_until(lambda: subscriber.count("pump", "scored") == 8)


def test_status_tells_birth_goodbye_and_loss(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """Retained, with a session's name, so that a late will is recognised."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    agent = Agent(config)
    agent.start()
    subscriber.wait_online()
    assert agent.stop() == 0
    wait_until(lambda: subscriber.statuses[-1]["state"] == "offline")
    assert subscriber.statuses[-1]["reason"] == "stopped"
    agent.start()
    subscriber.wait_online()
    agent.kill()
    wait_until(lambda: subscriber.statuses[-1]["state"] == "offline")
    assert subscriber.statuses[-1]["reason"] == "connection lost"
    sessions = [status["session"] for status in subscriber.statuses]
    assert sessions[-2] == sessions[-1] != sessions[0]
    with Subscriber(broker.port + 0, agent="g1") as late:
        wait_until(lambda: late.statuses)
        assert late.statuses[0]["state"] == "offline"


def test_readings_sent_while_the_agent_is_away_are_scored(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The broker keeps them in the agent's session."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with Agent(config):
        subscriber.wait_online()
    sender.send("sensors/a1/pump", {"c1": 5, "c2": 0})
    sender.drain()
    with Agent(config):
        subscriber.wait_events("raise")


def test_a_topic_that_is_configured_no_more_is_not_received(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The broker's session would have it for a week."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with Agent(config):
        subscriber.wait_online()
    config.write_text(config.read_text().replace("sensors/+", "other/+"))
    with Agent(config):
        wait_until(lambda: len(subscriber.statuses) > 2)
        subscriber.health = {}
        wait_until(lambda: subscriber.health)  # sent after what ends the subscription
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        sender.send("other/a1/pump", {"c1": 9, "c2": 9})
        subscriber.wait_events("raise")
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
        assert subscriber.health["unrouted"] == 0


def test_an_alert_of_a_stream_that_is_configured_no_more_is_told(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Nothing clears it, until the stream comes back."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    whole = config.read_text()
    with Agent(config):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        subscriber.wait_events("raise")
    config.write_text(whole.replace('"pump"', '"other"'))
    with Agent(config) as agent:
        told = (
            f"alert stays open until its stream is configured again stream=pump asset=a1 id={subscriber.alerts[0].id}"
        )
        wait_until(lambda: told in agent.log.read_text())
    config.write_text(whole)
    with Agent(config):
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")


def test_alerts_and_health_fit_a_broker_that_takes_small_packets_only(tmp_path: Path) -> None:
    """Without the channels of the smallest shares, and without the evidence; whole, they would end each connection."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", channels=60)
    with (
        Broker(tmp_path / "broker", rules="max_packet_size 2000\n") as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle})),
    ):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"values": list(range(60))})
        sender.send("sensors/a1/pump", {"values": [0] * 60})
        subscriber.wait_events("raise", "clear")
        shown = [channel.name for channel in subscriber.alerts[0].channels]
        assert shown == [f"c{number}" for number in range(60, 60 - len(shown), -1)]
        assert 10 < len(shown) < 60
        # While a first start still measures, there is little evidence, and it fits.
        wait_until(lambda: "engine" not in subscriber.stream("pump") and subscriber.health, what="no evidence")
        assert subscriber.health["connects"] == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_quick_and_clean(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, how: signal.Signals
) -> None:
    """Well inside what systemd allows, with exit code 0."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        assert agent.process is not None
        before = time.monotonic()
        agent.process.send_signal(how)
        assert agent.process.wait(timeout=10) == 0
        assert time.monotonic() - before < 5


def test_an_agent_starts_and_stops_without_a_broker(tmp_path: Path, bundle: Path) -> None:
    """It waits for the broker, and is there when it comes."""
    broker = Broker(tmp_path / "late")
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        wait_until(lambda: b"broker not connected" in agent.log.read_bytes())
        with broker, Subscriber(broker.port) as subscriber:
            subscriber.wait_online()
            assert agent.stop() == 0


def test_a_broker_that_does_not_speak_mqtt_5_is_spoken_to_in_the_older_one(tmp_path: Path, bundle: Path) -> None:
    """nats-server, the demo's broker where there is no mosquitto, knows 3.1.1 only; nothing else is different."""
    with demo_broker(tmp_path, "nats") as nats, Subscriber(nats.port) as subscriber, Sender(nats.port) as sender:
        agent = Agent(write_config(tmp_path, nats.port, {"pump": bundle}))
        agent.start()
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1)
        assert b"broker does not answer MQTT 5, trying 3.1.1" in agent.log.read_bytes()
        agent.stop()


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_readings_that_are_held_keep_no_broker_from_sending_more(tmp_path: Path, kind: str) -> None:
    """With a window they are held for more. Whatever the broker's limit is, they are scored long before `commit_s`."""
    bundle = write_bundle(tmp_path / "window-1.0.0.edge", window=12)
    with demo_broker(tmp_path, kind) as broker, Subscriber(broker.port) as subscriber, Sender(broker.port) as sender:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt='protocol = "3.1.1"')
        with Agent(config):
            subscriber.wait_online()
            for number in range(600):
                sender.send("sensors/a1/pump", {"time": 1_763_700_000 + number, "c1": 0.1, "c2": 0.1})
            wait_until(lambda: subscriber.stream("pump").get("scored") == 600 - 11, 15, what="all windows")
            assert subscriber.alerts == []


def test_bad_readings_are_counted_and_sampled_and_the_stream_goes_on(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Not JSON, wrong types, NaN, wrong length, no such topic: none of them costs a good reading."""
    bad = {
        "not_json": [b"hello", b'{"c1": 1, "c2": 1', b"\x00\xff\xfe"],
        "wrong_type": [b'{"c1": ["high"], "c2": 1}', b"[1, 2]"],
        "unreadable": [b'{"c1": NaN}', b'{"c1": "unavailable", "c2": Infinity}'],
        "wrong_length": [b'{"values": [1, 2, 3]}'],
        "no_channel": [b"{}"],
        "bad_time": [b'{"time": "noon", "c1": 1, "c2": 1}'],
    }
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        for payloads in bad.values():
            for payload in payloads:
                sender.send("sensors/a1/pump", payload)
                sender.send("sensors/a1/pump", {"values": [0.5, 0.5]})
        sender.send("sensors/a1/pump", {"c1": 5, "c2": 0})
        wait_until(lambda: len(subscriber.alerts) == 1)
        total = sum(len(payloads) for payloads in bad.values())
        wait_until(lambda: subscriber.stream("pump").get("scored") == total + 1)
        assert subscriber.stream("pump")["unreadable"] == {"c1": 2, "c2": 1}
        assert subscriber.stream("pump")["rejected"] == {reason: len(payloads) for reason, payloads in bad.items()}
        wait_until(lambda: {sample["reason"] for sample in subscriber.rejected} == set(bad))
    for reason in bad:
        assert agent.log.read_text().count(f"message rejected stream=pump reason={reason} count=1 ") == 1
    for sample in subscriber.rejected:
        assert sample["topic"] == "sensors/a1/pump"
        assert sample["sample"].isprintable()


def test_readings_far_outside_of_what_the_model_has_seen_are_told(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender
) -> None:
    """In health by channel, and in one line of the log, whatever the alerts say."""
    channels = [{"name": "c1", "min": 0.0, "max": 1.0}, {"name": "c2", "min": 0.0, "max": 1.0}]
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes={"channels": channels})
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        for number in range(120):
            sender.send(f"sensors/a{number % 4}/pump", {"c1": 0.5, "c2": 2.5})
        wait_until(lambda: subscriber.stream("pump").get("scored") == 120)
        expected = {"c2": {"count": 120, "last": 2.5, "min": 0.0, "max": 1.0, "most": True}}
        wait_until(lambda: subscriber.stream("pump")["out_of_range"] == expected)
    told = [line for line in agent.log.read_text().splitlines() if "far outside of what the model has seen" in line]
    assert 1 <= len(told) <= 2
    assert "most readings, likely of another unit or scaling, are far outside" in told[-1]
    assert "stream=pump channel='c2' value=2.5 seen_min=0 seen_max=1 asset=" in told[-1]


def test_a_storm_of_bad_readings_makes_no_storm_of_reports(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Everything is counted; a sample goes out once a second."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        started = time.monotonic()
        for _ in range(2000):
            sender.send("sensors/a1/pump", b"garbage")
        wait_until(lambda: subscriber.stream("pump").get("rejected") == {"not_json": 2000})
    assert 1 <= len(subscriber.rejected) <= 2 + time.monotonic() - started


def test_health_tells_what_runs_and_why(tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path) -> None:
    """Model, provider with its reason, memory, queue."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        wait_until(lambda: subscriber.stream("pump").get("engine", {}).get("settled"), what="a settled choice")
    lane = subscriber.stream("pump")
    assert lane["model"]["name"] == "square"
    assert "us at batch" in lane["provider_reason"]
    assert subscriber.health["queue_depth"] == 0
    assert subscriber.health["memory_bytes"] > 10_000_000


@pytest.mark.alone
def test_the_service_manager_is_told(
    tmp_path: Path, broker: Broker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life before, READY when the agent works, signs of life while it does, STOPPING first in the stop."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
            while (message := manager.recv(1000)).startswith((b"EXTEND_TIMEOUT_USEC=", b"STATUS=")):
                pass
            assert message.startswith(b"READY=1\n")
            connected = f"STATUS=connected to mqtt://127.0.0.1:{broker.port}".encode()
            messages: list[bytes] = []
            while messages.count(b"WATCHDOG=1") < 3 or connected not in messages:
                messages.append(manager.recv(1000))
            assert all(message == b"WATCHDOG=1" or message.startswith(b"STATUS=") for message in messages)
            assert messages.count(connected) == 1
            agent.stop()
            manager.settimeout(2)
            messages = [manager.recv(1000)]
            while messages[-1] == b"WATCHDOG=1":
                messages.append(manager.recv(1000))
            assert messages[-1] == b"STOPPING=1"


def test_retained_copies_are_not_taken_for_readings(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """A copy of unknown age must raise no alert today."""
    sender._client.publish("sensors/a1/pump", json.dumps({"c1": 9, "c2": 9}), qos=1, retain=True).wait_for_publish(10)
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        sender.send("sensors/a2/pump", {"c1": 0, "c2": 0})
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
    assert subscriber.alerts == []


def test_no_name_that_a_sender_chooses_stops_the_agent(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """An asset so long that no alert topic can hold it is rejected, not committed."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        sender.send(f"sensors/{'L' * 65_000}/pump", {"c1": 9, "c2": 9})
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1)
        wait_until(lambda: subscriber.health.get("unrouted") == 1)
