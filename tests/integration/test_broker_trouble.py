"""A broker that refuses, ends connections, falls silent or forgets keeps nothing from those who can be served."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from connecting import AGENT_RULES, log_of, password_file, raises_an_alert
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from proxy import Proxy
from raw_broker import RawBroker, acknowledge, publish_packet


def test_an_alert_that_the_broker_refuses_is_kept_and_told(tmp_path: Path, bundle: Path) -> None:
    """MQTT 5: PUBACK may be a refusal. The alert waits in the journal until the access rules are put right.

    It is tried again after a minute, so this takes that long. Mosquitto 2.0.11 ends the connection with the refusal.
    """
    rules = tmp_path / "rules"
    rules.write_text(AGENT_RULES.format(more=""))
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    settings = f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
    topic = "edge/g1/alerts/pump/a1"
    with (
        Broker(tmp_path / "broker", rules=settings) as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        with Sender(broker.port) as sender:
            subscriber.wait_online()
            sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
            wait_until(lambda: f"message refused topic={topic}" in log_of(agent))
            wait_until(lambda: subscriber.health.get("broker", {}).get("refused") == {topic: "not authorized"})
            assert subscriber.health["queue_depth"] == 1
            assert subscriber.alerts == []
            rules.write_text(AGENT_RULES.format(more="topic write edge/g1/alerts/pump/a2"))
            broker.reload()
            sender.send("sensors/a2/pump", {"c1": 9, "c2": 0})
            wait_until(lambda: [event.asset for event in subscriber.alerts] == ["a2"], what="the other asset's alert")
        rules.write_text(AGENT_RULES.format(more="topic write edge/g1/alerts/#"))
        broker.reload()
        wait_until(lambda: [event.asset for event in subscriber.alerts] == ["a2", "a1"], 120, what="the alert")
        wait_until(lambda: subscriber.health["queue_depth"] == 0)
        wait_until(lambda: subscriber.health.get("broker", {}).get("refused") == {})


def test_a_broker_that_ends_the_connection_in_place_of_a_refusal_keeps_no_other_alert(
    tmp_path: Path, bundle: Path
) -> None:
    """Mosquitto 2.0.11 does, and of several refusals on their way nothing arrives; readings are scored meanwhile."""
    rules = tmp_path / "rules"
    rules.write_text(AGENT_RULES.format(more="topic write edge/g1/alerts/pump/good"))
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    settings = f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
    with (
        Broker(tmp_path / "broker", rules=settings) as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        subscriber.wait_online()
        for asset in ("a1", "a2", "a3", "a4", "good"):
            sender.send(f"sensors/{asset}/pump", {"c1": 9, "c2": 0})
        subscriber.wait_events("raise", timeout_s=60)
        wait_until(lambda: all(f"refused topic=edge/g1/alerts/pump/a{n}" in log_of(agent) for n in (1, 2, 3, 4)), 60)
        sender.send("sensors/good/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")
        wait_until(lambda: subscriber.health.get("queue_depth") == 4)
        wait_until(lambda: subscriber.stream("pump")["scored"] == 6)


@pytest.mark.parametrize("code", [0x87, 0x97], ids=["not authorized", "quota exceeded"])
def test_a_broker_that_ends_the_connection_with_a_reason_keeps_no_other_alert(
    tmp_path: Path, bundle: Path, code: int
) -> None:
    """MQTT 5 lets a broker answer a message that it forbids by DISCONNECT: which one it was, it does not say."""

    def answer(topic: bytes, mid: bytes) -> bytes:
        return b"\xe0\x01" + bytes([code]) if topic.endswith(b"/a0") else acknowledge(topic, mid)

    with RawBroker(answer) as broker, Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        assert broker.subscribed.wait(20)
        # At once, and as many as the agent takes at first: this broker sends nothing again on the next connection.
        payload = b'{"time":1,"c1":9,"c2":0}'
        broker.send(b"".join(publish_packet(b"sensors/a%d/pump" % number, payload, number + 1) for number in range(4)))
        wanted = {b"edge/g1/alerts/pump/a%d" % number for number in range(1, 4)}
        wait_until(lambda: {topic for topic, _ in broker.published} >= wanted, 30, what="the other alerts")
        wait_until(lambda: "refused topic=edge/g1/alerts/pump/a0" in log_of(agent))


def test_whatever_comes_is_acknowledged_in_its_order(tmp_path: Path, bundle: Path) -> None:
    """Good readings with all that is none between them: PUBACKs go in the order of the messages [MQTT-4.6.0-2]."""
    good, topic = b'{"time":%d,"c1":9,"c2":0}', b"sensors/a1/pump"
    packets = [
        publish_packet(topic, good % 1, 1),
        publish_packet(topic, good % 2, 2, flags=1),  # a retained copy
        publish_packet(topic, good % 1, 3),  # the sender's repetition
        publish_packet(b"elsewhere", good % 4, 4),
        publish_packet(b"sensors/\xff/pump", good % 5, 5),  # a topic that is no text
        publish_packet(topic, b"junk", 6),
        publish_packet(topic, b"x" * 3_000_000, 7),
        publish_packet(topic, good % 8, 8, flags=8),
        publish_packet(topic, good % 9, 9, flags=9),
        publish_packet(topic, good % 10, 10),
    ]
    with RawBroker() as broker, Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        assert broker.subscribed.wait(20)
        broker.send(b"".join(packets))
        wait_until(lambda: broker.acknowledged == len(packets))
    assert broker.acks == list(range(1, 11))


def test_a_stop_tells_no_drift_whose_readings_come_again(tmp_path: Path) -> None:
    """The journal is full of an alert that the broker does not answer, so the drift stays with its readings."""
    takes_alerts = threading.Event()

    def answer(topic: bytes, mid: bytes) -> bytes:
        return acknowledge(topic, mid) if b"/alerts/" not in topic or takes_alerts.is_set() else b""

    quantiles = {"0.1": 0.1, "0.3": 0.3, "0.5": 0.5, "0.7": 0.7, "0.9": 1.0}
    calibration = {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": quantiles}
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes={"calibration": calibration})
    drift, journal = "[stream.drift]\nblock = 20\nblocks = 1\n", "[journal]\nlimit_mb = 0.0006\n"
    drifted = [
        publish_packet(b"sensors/a2/pump", b'{"time":%d,"c1":2,"c2":0}' % number, number) for number in range(10, 50)
    ]
    first, more = drifted[:20], drifted[20:]
    with (
        RawBroker(answer) as broker,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, stream=drift, extra=journal)) as agent,
    ):
        assert broker.subscribed.wait(20)
        broker.send(publish_packet(b"sensors/a1/pump", b'{"time":1,"c1":9,"c2":0}', 1))
        wait_until(lambda: broker.acknowledged == 1)
        broker.send(b"".join(first))
        wait_until(lambda: "journal takes nothing" in log_of(agent))
        assert agent.stop() == 0
        takes_alerts.set()
        broker.subscribed.clear()
        agent.start()
        assert broker.subscribed.wait(20)
        # Those that were acknowledged are known, so others have to fill the block.
        broker.send(b"".join(first + more))
        wait_until(lambda: any(topic.endswith(b"/stream") for topic, _ in broker.published), what="the drift")


def test_a_listener_that_never_answers_is_told_and_left_for_the_broker_that_comes(tmp_path: Path, bundle: Path) -> None:
    """TCP alone is no connection."""
    with Broker(tmp_path / "late") as broker:
        broker.stop()
        with socket.create_server(("127.0.0.1", broker.port)):
            agent = Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt="keepalive_s = 5"))
            agent.start()
            wait_until(lambda: "reason=no_answer" in log_of(agent), 30)
        broker.start()
        with Subscriber(broker.port) as subscriber:
            wait_until(lambda: subscriber.statuses, 40, what="the agent's birth")
            assert agent.stop() == 0


def test_a_slow_refusal_does_not_make_the_older_protocol_stay(tmp_path: Path, bundle: Path) -> None:
    """RabbitMQ 4 answers a wrong password after 3 s, in both; once it is put right, the agent speaks MQTT 5."""
    password = tmp_path / "password"
    password.write_text("wrong", encoding="utf-8")
    password.chmod(0o600)
    mqtt = f'username = "u"\npassword_file = "{password}"'
    with RawBroker() as broker:
        broker.refuses_after_s = 3.5
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent:
            wait_until(lambda: "reason=bad_credentials" in log_of(agent), 30, "the refusal")
            assert broker.asked == [5, 4]
            broker.refuses_after_s = None
            password.write_text("right", encoding="utf-8")
            assert broker.subscribed.wait(30)
        assert broker.asked[2:] == [5]


def test_a_connection_that_goes_silent_is_noticed_within_the_keepalive(tmp_path: Path, bundle: Path) -> None:
    """Half-open TCP: nobody sees an end. What was sent meanwhile is scored afterwards."""
    with Broker(tmp_path / "broker") as broker, Proxy(broker.port) as proxy, Subscriber(broker.port) as subscriber:
        config = write_config(tmp_path, proxy.port, {"pump": bundle}, mqtt="keepalive_s = 5")
        with Agent(config) as agent, Sender(broker.port) as sender:
            subscriber.wait_online()
            raises_an_alert(sender, subscriber)
            began = time.monotonic()
            proxy.weather.cut = True
            sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
            wait_until(lambda: "reason=silent" in log_of(agent), 15, "the loss to be noticed")
            assert time.monotonic() - began > 3  # it is silence that is noticed, and nothing else
            proxy.weather.cut = False
            wait_until(lambda: len(subscriber.different) == 2, 15, "the event of the reading sent meanwhile")


def test_a_broker_that_forgot_everything_is_told_everything_again(tmp_path: Path, bundle: Path) -> None:
    """Restarted without persistence: the birth is retained again, and readings come again."""
    with (
        Broker(tmp_path / "broker", persistence=False) as broker,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent,
    ):
        wait_until(lambda: log_of(agent).count("session_present=False") == 1)
        broker.stop()
        broker.start()
        wait_until(lambda: log_of(agent).count("session_present=False") == 2, 60, "the second connection")
        with Subscriber(broker.port) as late, Sender(broker.port) as sender:
            wait_until(lambda: late.statuses and late.health, what="the retained birth and health")
            assert late.statuses[0]["state"] == "online"
            raises_an_alert(sender, late)


def test_two_agents_of_one_id_are_told(tmp_path: Path, bundle: Path) -> None:
    """They end each other's connections; mosquitto does not say why."""
    (tmp_path / "other").mkdir()
    with Broker(tmp_path / "broker") as broker:
        one = write_config(tmp_path, broker.port, {"pump": bundle})
        other = write_config(tmp_path / "other", broker.port, {"pump": bundle})
        with Agent(one) as first, Agent(other):
            wait_until(lambda: "again and again: does another agent have our [agent] id?" in log_of(first), 60)
