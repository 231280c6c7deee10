"""`[evidence]`: the readings around a raise, from a real agent beside a real broker."""

from __future__ import annotations

import os
from pathlib import Path

from connecting import AGENT_RULES, log_of, password_file
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config
from telling import Listener

EVIDENCE = "[evidence]\nbefore_s = 10\nafter_s = 2\n"


def test_a_raise_is_followed_by_the_readings_around_it(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """As they came: those of its asset alone, with what was missing; once, though the alert goes on."""
    with (
        Listener(broker.port, "evidence", "alerts") as evidence,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=EVIDENCE)),
    ):
        subscriber.wait_online()
        for number in range(20):
            value = 9.0 if number >= 15 else None if number == 12 else 0.1 * number
            sender.send("sensors/a1/pump", {"time": 1763700000.0 + number, "c1": value, "c2": 0.5})
            sender.send("sensors/a2/pump", {"time": 1763700000.0 + number, "c1": 0.0, "c2": 0.0})
        wait_until(lambda: evidence.messages)
        wait_until(lambda: subscriber.health.get("evidence", {}).get("published") == 1)
        assert subscriber.health["evidence"] == {"waiting_bytes": 0, "published": 1, "dropped": 0, "left_out": 0}
    (message,) = evidence.messages
    (raised,) = [event for event in subscriber.alerts if event.event == "raise"]
    assert message["topic"] == "edge/g1/evidence/pump/a1"
    assert evidence.flags == {(1, False)}
    assert (message["id"], message["agent"], message["stream"], message["asset"]) == (raised.id, "g1", "pump", "a1")
    assert (message["channels"], message["part"], message["parts"]) == (["c1", "c2"], 1, 1)
    rows = message["rows"]
    assert [row[0] for row in rows] == [f"2025-11-21T04:40:{second:02}.000Z" for second in range(5, 18)]
    assert [row[1] for row in rows] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, None, 1.3, 1.4, 9.0, 9.0, 9.0]
    assert {row[2] for row in rows} == {0.5}


def test_a_stop_hands_over_what_was_collected(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Somebody who stops or reloads an agent because of an alert must not lose the readings of it."""
    extra = "[evidence]\nbefore_s = 10\nafter_s = 3600\n"
    with Listener(broker.port, "evidence") as evidence:
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra)):
            subscriber.wait_online()
            for number, value in enumerate((0.0, 0.5, 9.0, 9.5)):
                sender.send("sensors/a1/pump", {"time": 1763700000.0 + number, "c1": value, "c2": 0.0})
            subscriber.wait_events("raise")
            wait_until(lambda: subscriber.stream("pump").get("scored") == 4)
            assert evidence.messages == []
        wait_until(lambda: evidence.messages)
    assert [row[1] for row in evidence.messages[0]["rows"]] == [0.0, 0.5, 9.0, 9.5]


def test_evidence_waits_for_a_broker_that_is_away_and_lets_alerts_go_first(tmp_path: Path, bundle: Path) -> None:
    """In memory, behind all alerts; what was on its way as the broker died comes again."""
    with (
        Broker(tmp_path / "broker") as broker,
        Subscriber(broker.port) as subscriber,
        Listener(broker.port, "evidence", "alerts") as evidence,
    ):
        extra = "[evidence]\nbefore_s = 0\nafter_s = 1\n"
        pipe = tmp_path / "lines"
        config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra)
        config.write_text(config.read_text().replace('topic = "sensors/+/pump"', f'input = "{pipe}"'))
        os.mkfifo(pipe)
        with Agent(config), pipe.open("w") as lines:
            subscriber.wait_online()
            broker.stop()
            for number in range(10):
                lines.write(f'{{"asset":"a{number}","time":{1763700000 + number},"c1":9,"c2":0}}\n')
                lines.write(f'{{"asset":"a{number}","time":{1763700005 + number},"c1":9,"c2":0}}\n')
            lines.flush()
            broker.start()
            wait_until(lambda: {each["asset"] for each in evidence.messages} == {f"a{n}" for n in range(10)}, 60)
    first = evidence.order.index("evidence")
    assert evidence.order[:first].count("alerts") >= 10


def test_a_flood_of_raises_leaves_memory_and_alerts_as_they_were(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Sixteen are collected at a time; the others are counted."""
    extra = "[evidence]\nbefore_s = 60\nafter_s = 60\nmax_bytes = 200000\n"
    storm = "[stream.storm]\nraises = 0"
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra, stream=storm)) as agent:
        subscriber.wait_online()
        before_mb = agent.memory_mb()
        for number in range(500):
            sender.send(f"sensors/a{number}/pump", {"c1": 9.0, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("raised") == 500, 60)
        wait_until(lambda: subscriber.health.get("evidence", {}).get("left_out") == 500 - 16)
        wait_until(lambda: len(subscriber.different) == 500, 60)
        assert agent.memory_mb() < before_mb + 10


def test_readings_that_the_broker_refuses_hold_up_no_others_and_no_alert(tmp_path: Path, bundle: Path) -> None:
    """Access rules for one asset alone; mosquitto 2.0.11 ends the connection with each refusal. It is told once."""
    rules = tmp_path / "rules"
    rules.write_text(AGENT_RULES.format(more="topic write edge/g1/alerts/#\ntopic write edge/g1/evidence/pump/a2"))
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    extra = "[evidence]\nbefore_s = 10\nafter_s = 0\n"
    with (
        Broker(
            tmp_path / "broker", rules=f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
        ) as broker,
        Subscriber(broker.port) as subscriber,
        Listener(broker.port, "evidence") as evidence,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt, extra=extra)) as agent,
    ):
        subscriber.wait_online()
        for asset in ("a1", "a2"):
            for number in range(2):
                sender.send(f"sensors/{asset}/pump", {"time": 1763700000.0 + number, "c1": 9, "c2": 0})
        wait_until(lambda: evidence.of("a2"), 40, what="the readings of the other asset")
        wait_until(lambda: {event.asset for event in subscriber.alerts} == {"a1", "a2"}, 40, what="both alerts")
        topic = "edge/g1/evidence/pump/a1"
        wait_until(lambda: [*subscriber.health.get("broker", {}).get("refused", {})] == [topic])
        assert subscriber.health["evidence"]["waiting_bytes"] > 0
        here = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "run")}
        said = run_tool("edge-agent", "status", "--config", agent.config, env=here).stdout
        waiting = subscriber.health["evidence"]["waiting_bytes"]
        assert f"\n  evidence      1 message published, {waiting} bytes wait\n" in said
        assert f"last error    {topic} refused: not authorized" in said
        assert log_of(agent).count(f"message refused topic={topic}") == 1
        assert evidence.of("a1") == []
