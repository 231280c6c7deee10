"""Streams of other shapes than one JSON object per reading, through the real agent."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
from pathlib import Path

import cbor2
import msgspec
import pytest
from processes import Agent, Broker, Sender, Subscriber, run_tool, tool, wait_until, write_config


def configure(tmp_path: Path, port: int, bundle: Path, *, topic: str = "sensors/+/pump", extra: str = "") -> Path:
    config = write_config(tmp_path, port, {"pump": bundle})
    text = config.read_text().replace('topic = "sensors/+/pump"', f'topic = "{topic}"')
    config.write_text(f"{text}\n{extra}\n")
    return config


def take_input(config: Path, place: str) -> Path:
    """Let the stream read lines in place of a topic."""
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', f'input = "{place}"'))
    return config


def test_one_topic_per_channel_is_joined(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Bare numbers on `plant/{asset}/{channel}`; a kill between two channels of one reading loses none of them."""
    config = configure(tmp_path, broker.port, bundle, topic="plant/{asset}/{channel}", extra="join_s = 60")
    with Agent(config) as agent:
        subscriber.wait_online()
        for value in (b"0.5", b"0.25"):
            sender.send("plant/a1/c1", value)
            sender.send("plant/a1/c2", value)
            sender.send("plant/a1/mode", b"auto")
        wait_until(lambda: subscriber.stream("pump").get("scored") == 2)
        sender.send("plant/a1/c1", b"4")
        wait_until(lambda: subscriber.stream("pump").get("received") == 7)
        assert subscriber.stream("pump")["ignored"] == {"mode": 2}
        agent.kill()
        agent.start()
        sender.send("plant/a1/c2", b"1")
        wait_until(lambda: subscriber.alerts)
    assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("a1", 17.0)


def test_payloads_of_every_format_are_told_apart(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """On one topic, one after the other."""
    reading = {"c1": 1.0, "c2": 1.0}
    with Agent(configure(tmp_path, broker.port, bundle)):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", reading)
        sender.send("sensors/a1/pump", msgspec.msgpack.encode(reading))
        sender.send("sensors/a1/pump", cbor2.dumps(reading))
        sender.send("sensors/a1/pump", b'[{"n": "c1", "v": 1}, {"n": "c2", "v": 1}]')
        sender.send("sensors/a1/pump", msgspec.json.encode([reading, reading]))
        wait_until(lambda: subscriber.stream("pump").get("scored") == 6)
        assert subscriber.stream("pump")["rejected"] == {}


def test_an_asset_is_commissioned_and_again_on_command(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Silent while it learns, an alert by its own limit, and anew when the operator says so."""
    config = configure(tmp_path, broker.port, bundle, extra="[stream.commission]\nreadings = 40")
    with Agent(config):
        subscriber.wait_online()
        for number in range(40):
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": 20.0 + number % 7, "c2": 0.0})
        wait_until(lambda: (subscriber.stream("pump").get("commission") or {}).get("ready") == 1)
        assert subscriber.alerts == []
        assert subscriber.stream("pump")["commission"]["over_bundle"] == {"a1": 1.0}
        text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
        told = {*subscriber.health, *subscriber.stream("pump"), *subscriber.stream("pump")["commission"]}
        assert {key for key in told if f"`{key}`" not in text} == set()
        sender.send("sensors/a1/pump", {"time": 200.0, "c1": 25.0, "c2": 0.0})
        sender.send("sensors/a1/pump", {"time": 201.0, "c1": 90.0, "c2": 0.0})
        wait_until(lambda: len(subscriber.alerts) == 1)
        assert subscriber.alerts[0].time == "1970-01-01T00:03:21.000Z"
        done = run_tool("edge-agent", "recommission", "pump", "a1", "--config", config)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: (subscriber.stream("pump").get("commission") or {}).get("ready") == 0)
    assert run_tool("edge-agent", "recommission", "fan", "--config", config).returncode == 2


def test_idle_assets_are_forgotten(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """All but those with an alert."""
    with Agent(configure(tmp_path, broker.port, bundle, extra="idle_s = 0.5")):
        subscriber.wait_online()
        for number in range(200):
            sender.send(f"sensors/asset{number}/pump", {"c1": 0.0, "c2": 0.0})
        sender.send("sensors/bad/pump", {"c1": 9.0, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("scored") == 201)
        wait_until(lambda: subscriber.stream("pump")["assets"] == 1)
        assert subscriber.stream("pump")["active_alerts"] == 1


def test_a_stream_remembers_no_more_assets_than_it_may(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Others are forgotten for new ones; where none may be, new ones are rejected. Health and log tell both."""
    # With a room of one, what happens does not depend on which readings the agent takes at once.
    with Agent(configure(tmp_path, broker.port, bundle, extra="max_assets = 1")) as agent:
        subscriber.wait_online()
        for number in range(20):
            sender.send(f"sensors/asset{number}/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("forgotten") == 19)
        sender.send("sensors/bad/pump", {"c1": 9.0, "c2": 0.0})
        sender.send("sensors/new/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("rejected") == {"too_many_assets": 1})
        told = subscriber.stream("pump")
        assert [told[key] for key in ("assets", "forgotten", "active_alerts", "readings")] == [1, 20, 1, 21]
        wait_until(lambda: "assets forgotten for new ones stream=pump count=" in agent.log.read_text())
        (sample,) = [sample for sample in subscriber.rejected if sample["reason"] == "too_many_assets"]
        assert sample["topic"] == "sensors/new/pump"
        assert sample["detail"] == (
            "none of the assets (now 1) may be forgotten, for their alerts or limits of their own; raise max_assets = 1"
        )


def test_a_pipe_is_scored_and_the_agent_ends_with_it(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """JSON lines on the standard input; every event is at the broker before the agent ends, with exit code 0."""
    config = take_input(write_config(tmp_path, broker.port, {"pump": bundle}), "-")
    lines = [{"time": 100.0 + n, "asset": f"p{n % 2}", "c1": 9.0 if 10 <= n < 20 else 0.0, "c2": 0} for n in range(100)]
    text = b"\n".join(msgspec.json.encode(line) for line in lines)
    command = [tool("edge-agent"), "run", "--config", str(config)]
    done = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    wait_until(lambda: len(subscriber.alerts) == 4)
    assert sorted((event.asset, event.event) for event in subscriber.alerts) == [
        ("p0", "clear"),
        ("p0", "raise"),
        ("p1", "clear"),
        ("p1", "raise"),
    ]


def test_an_input_that_is_none_of_ours_is_told(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Nobody watches the broker while a file goes through a pipe; log and exit code say what came of its lines."""
    config = take_input(write_config(tmp_path, broker.port, {"pump": bundle}), "-")
    command = [tool("edge-agent"), "run", "--config", str(config)]
    assert subprocess.run(command, input=b"time,asset,c1,c2\n1,a/1,9,9\n", check=False, timeout=60).returncode == 65
    text = b"C1;C2\n1;2\n3;4,5\n"
    done = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)
    log = done.stderr.decode()
    assert done.returncode == 65, log
    assert "no line of input - was a reading; see the log" in log
    assert "input has one column; are its cells separated by ','?" in log
    assert "reason='the input ended'" in log
    assert "WARNING edge_agent.agent.stream stream stopped name=pump received=2 readings=0 scored=0" in log
    assert "rejected=1 no_channel, 1 wrong_length" in log


@pytest.fixture
def piped(tmp_path: Path, broker: Broker, bundle: Path) -> tuple[Path, Path]:
    """A named pipe, and the configuration of an agent that reads it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return pipe, take_input(write_config(tmp_path, broker.port, {"pump": bundle}), str(pipe))


def test_a_planned_stop_is_none_of_the_inputs_faults(piped: tuple[Path, Path], subscriber: Subscriber) -> None:
    """A pipe that has brought one bad line so far: the unit has not failed."""
    pipe, config = piped
    with Agent(config) as agent:
        subscriber.wait_online()
        pipe.write_bytes(b"{\n")
        wait_until(lambda: subscriber.stream("pump").get("rejected") == {"not_json": 1})
        assert agent.stop() == 0


def test_a_compressed_input_is_told(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """With what to do; not line by line as garbage."""
    packed = tmp_path / "readings.csv.gz"
    packed.write_bytes(gzip.compress(b"time,c1,c2\n1,2,3\n"))
    config = take_input(write_config(tmp_path, broker.port, {"pump": bundle}), str(packed))
    done = run_tool("edge-agent", "run", "--config", config)
    assert done.returncode == 65
    assert "is compressed; give it unpacked" in done.stderr


def test_a_channel_that_never_comes_is_told(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """By name, in log and health: a letter that is missing in a sender's key looks like a machine that is silent."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        for number in range(20):
            sender.send("sensors/a1/pump", {"c1": number, "C2": 1})
        wait_until(lambda: subscriber.stream("pump").get("missing") == {"c2": 20})
        assert "readings are incomplete, not scored stream=pump missing='c2 in " in agent.log.read_text()
        assert "readings have no `time`" in agent.log.read_text()


def test_a_stop_scores_the_lines_that_were_read(piped: tuple[Path, Path], subscriber: Subscriber) -> None:
    """Nobody keeps them: what a pipe has given is gone from it."""
    pipe, config = piped
    with Agent(config) as agent:
        subscriber.wait_online()
        assert agent.process is not None
        writer = os.open(pipe, os.O_WRONLY)
        os.write(writer, b'{"time": 0, "c1": 1, "c2": 1}\n')
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
        agent.process.send_signal(signal.SIGSTOP)
        os.write(writer, b"".join(b'{"time": %d, "c1": 1, "c2": 1}\n' % n for n in range(1, 1500)))
        agent.process.send_signal(signal.SIGTERM)
        agent.process.send_signal(signal.SIGCONT)
        agent.process.wait(timeout=20)
        # Where the stop came before they were read, they are still in the pipe, for the next start.
        agent.start()
        wait_until(lambda: agent.log.read_text().count("agent started") == 2)
        os.write(writer, b'{"time": 1500, "c1": 9, "c2": 9}\n')
        subscriber.wait_events("raise")
        os.close(writer)
    assert sum(map(int, re.findall(r"stream stopped .* scored=(\d+)", agent.log.read_text()))) == 1501
