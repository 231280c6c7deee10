"""Messages of other senders, and topics that several streams have, through the real agent and a real broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config

GATEWAY = """
[stream.payload]
rows = "values[]"
name = "id"
value = "v"
time = "t"
names = "{names}"
good = {{ key = "q", is = [true] }}
"""


def gateway_message(at_ms: int, values: dict[str, float]) -> dict[str, object]:
    return {
        "timestamp": at_ms,
        "values": [{"id": name, "v": value, "q": True, "t": at_ms} for name, value in values.items()],
    }


def test_a_gateway_feeds_several_streams_on_one_topic(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Each takes its machines; a message is acknowledged once, when both have it: a kill loses and doubles nothing."""
    config = write_config(tmp_path, broker.port, {"pump": bundle, "fan": bundle})
    text = config.read_text()
    for name in ("pump", "fan"):
        table = GATEWAY.format(names=f"Line1.{name}-{{asset}}.{{channel}}")
        text = text.replace(f'topic = "sensors/+/{name}"\n', f'topic = "gateway"\n{table}')
    config.write_text(text)

    def no_channel() -> int:
        return sum(subscriber.stream(name).get("rejected", {}).get("no_channel", 0) for name in ("pump", "fan"))

    with Agent(config) as agent:
        subscriber.wait_online()
        quiet = {f"Line1.{kind}-7.{channel}": 0.5 for kind in ("pump", "fan") for channel in ("c1", "c2")}
        sender.send("gateway", gateway_message(1_763_700_000_000, quiet))
        wait_until(lambda: all(subscriber.stream(name).get("scored") == 1 for name in ("pump", "fan")))
        agent.kill()
        sender.send("gateway", gateway_message(1_763_700_001_000, {**quiet, "Line1.fan-7.c1": 4.0}))
        agent.start()
        wait_until(lambda: subscriber.alerts)
        (alert,) = subscriber.alerts
        assert (alert.stream, alert.asset, alert.score) == ("fan", "7", 16.25)
        # A message of neither is told once; one of either, by nobody.
        sender.send("gateway", {"values": [{"v": 1}]})
        wait_until(lambda: no_channel() == 1)
        agent.stop()


def test_parts_of_a_topic_make_the_asset(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Values of one machine at two depths become one reading."""
    config = write_config(tmp_path, broker.port, {"press": bundle})
    topics = '["acme/{line}/{cell}/{channel}", "acme/{line}/{cell}/motor/{channel}"]'
    wanted = f'topic = {topics}\nasset = "{{line}}-{{cell}}"'
    config.write_text(config.read_text().replace('topic = "sensors/+/press"', wanted))
    with Agent(config):
        subscriber.wait_online()
        sender.send("acme/l1/c2/c1", b"3")
        sender.send("acme/l1/c2/motor/c2", b"4")
        wait_until(lambda: subscriber.alerts)
    assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("l1-c2", 25.0)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('[stream.payload.channels]\nc9 = "x"', "channels.c9: the bundle has no such channel; it has c1, c2"),
        ('[stream.payload]\npreset = "tasmota"', "time_zone: is missing"),
    ],
)
def test_check_tells_what_does_not_fit(tmp_path: Path, broker: Broker, bundle: Path, table: str, told: str) -> None:
    """With 78, as any other mistake in the configuration."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=table)
    result = run_tool("edge-agent", "check", "--config", config)
    assert result.returncode == 78
    assert told in result.stderr


def test_check_shows_what_a_captured_message_becomes(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Asset, time, values, where they came from, what is missing and why; in words and as JSON."""
    table = (
        '[stream.payload]\ntime = "ts"\nfields = "v"\nasset = "dev"\n[stream.payload.channels]\nc2 = { scale = 0.1 }'
    )
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=table)
    message = tmp_path / "message.json"
    message.write_text('{"ts": 1763700000250, "dev": "a7", "v": {"c1": "unavailable", "c2": 15, "x": 1}}\n')
    asked = ("edge-agent", "check", "--config", config, "--payload", message, "--topic", "sensors/gw/pump")
    result = run_tool(*asked)
    assert result.returncode == 0, result.stderr
    for part in (
        "asset a7 at 2025-11-21T04:40:00.250Z",
        "c1 = missing",
        "c2 = 1.5",
        'c1 at c1: "unavailable": it stands for no value',
    ):
        assert part in result.stdout
    (stream,) = json.loads(run_tool(*asked, "--json").stdout)["streams"]
    assert stream["readings"] == [
        {"asset": "a7", "time": "2025-11-21T04:40:00.250Z", "time_is_of": "payload", "values": {"c1": None, "c2": 1.5}}
    ]
    assert stream["unreadable"] == {"c1": 1}


@pytest.mark.parametrize(
    ("text", "more", "code", "told"),
    [
        ('{"c1": 1, "Timestamp": 5}', (), 0, "'Timestamp' may be the time, and is not read"),
        ('{"c1": 1', (), 65, "not_json"),
        ('{"c1": 1}', ("--topic", "sensors/x/fan"), 65, "no stream has it"),
        ('{"v": [{"n": "c9", "value": 1}]}', ("--topic", "named/x"), 65, "no value of a channel was found"),
        ('{"c1": 1}', ("--topic",), 2, "--topic"),
    ],
)
def test_check_tells_why_a_message_becomes_nothing(
    tmp_path: Path, broker: Broker, bundle: Path, text: str, more: tuple[str, ...], code: int, told: str
) -> None:
    """And what may be meant."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    named = '[[stream]]\nname = "named"\ntopic = "named/+"\n[stream.payload]\nrows = "v[]"\nname = "n"\n'
    config.write_text(config.read_text() + named.replace("topic", f'bundle = "{bundle}"\ntopic'))
    message = tmp_path / "message.json"
    message.write_text(text)
    topic = more or ("--topic", "sensors/x/pump")
    result = run_tool("edge-agent", "check", "--config", config, "--payload", message, *topic)
    assert result.returncode == code
    assert told in result.stdout + result.stderr


def test_what_replay_sends_as_another_sender_is_scored(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """A round trip through a real broker: file, form, preset, score."""
    rows = tmp_path / "rows.csv"
    rows.write_text("time,asset,c1,c2\n1763700000,Pump 1,0.5,0.5\n1763700001,Pump 1,3,4\n")
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream='[stream.payload]\npreset = "ttn"')
    with Agent(config):
        subscriber.wait_online()
        asked = ("replay", rows, "--topic", "sensors/gw/pump", "--port", str(broker.port), "--as")
        assert run_tool("edgetool", *asked, "ttn").returncode == 0
        wait_until(lambda: subscriber.alerts)
        assert (subscriber.alerts[0].asset, subscriber.alerts[0].score) == ("Pump 1", 25.0)
        wrong = run_tool("edgetool", *asked, "ttm")
        assert wrong.returncode == 2
        assert "--as 'ttm': expected one of telegraf" in wrong.stderr
