"""`[publish] scores`: what a picture needs, from a real agent beside a real broker."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import msgspec
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from telling import Listener

KEYS = ["agent", "stream", "asset", "time", "since", "windows", "score", "highest", "threshold", "clear"]
KEYS += ["state", "channels"]


def test_an_asset_is_told_with_its_scores_its_limits_and_its_state(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Every window once; the highest score with its channels; nothing of an asset that scored nothing."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra='[publish]\nscores = "0.5s"')
    with Listener(broker.port, "scores") as scores, Agent(config):
        subscriber.wait_online()
        for number, value in enumerate([0.5, 4.0, 1.0]):
            sender.send("sensors/a1/pump", {"time": 1763700000.0 + number, "c1": value, "c2": -2.0})
        sender.send("sensors/b 2/pump", {"time": 1763700000.0, "c1": 0.0, "c2": 0.0})
        wait_until(lambda: scores.windows() == 4)
        sender.send("sensors/a1/pump", {"time": 1763700003.0, "c1": 0.0, "c2": 0.0})
        wait_until(lambda: scores.windows() == 5)
        wait_until(lambda: scores.of("a1")[-1]["state"] == "normal")
        assert subscriber.health["scores_left_out"] == 0
    assert all([*each] == ["topic", *KEYS] for each in scores.messages)
    assert {each["topic"] for each in scores.messages} == {"edge/g1/scores/pump/a1", "edge/g1/scores/pump/b 2"}
    assert scores.flags == {(0, False)}
    top = max(scores.of("a1"), key=lambda each: each["highest"])
    assert (top["highest"], top["threshold"], top["clear"]) == (20.0, 9.0, 4.0)
    assert top["channels"][0] == {"name": "c1", "share": 0.8, "value": 4.0}
    assert top["channels"][1] == {"name": "c2", "share": 0.2, "value": -2.0}
    (calm,) = scores.of("b 2")
    assert (calm["score"], calm["state"], calm["windows"]) == (0.0, "normal", 1)
    assert calm["time"] == calm["since"] == "2025-11-21T04:40:00.000Z"


def test_learning_stuck_and_muted_assets_are_told_as_such(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Limits are null for as long as there are none."""
    stream = "stuck_readings = 5\n[stream.commission]\nreadings = 30"
    extra = '[publish]\nscores = "0.3s"'
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra, stream=stream)
    with Listener(broker.port, "scores") as scores, Agent(config):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 1.0, "c2": 0.0})
        wait_until(lambda: scores.of("a1"))
        assert [scores.of("a1")[0][key] for key in ("threshold", "clear", "state")] == [None, None, "learning"]
        for number in range(40):
            sender.send("sensors/a1/pump", {"c1": number / 100, "c2": number / 90})
        wait_until(lambda: scores.of("a1")[-1]["state"] == "normal")
        assert scores.of("a1")[-1]["threshold"] > scores.of("a1")[-1]["clear"] > 0
        for _ in range(6):
            sender.send("sensors/a1/pump", {"c1": 0.01, "c2": 0.01})
        wait_until(lambda: scores.of("a1")[-1]["state"] == "stuck")
        assert "muted" not in scores.of("a1")[-1]


def test_ten_thousand_assets_are_told_up_to_a_bound(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Those nearest to their limit or farthest above it; the others are counted."""
    extra = '[publish]\nscores = "2s"\nscores_a_second = 10'
    with (
        Listener(broker.port, "scores") as scores,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra)),
    ):
        subscriber.wait_online()
        for number in range(10_000):
            # The score grows with the number, from 0 to 4: all below the limit of 9.
            sender.send(f"sensors/a{number:05}/pump", {"c1": number / 5000, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("scored") == 10_000, 60)
        wait_until(lambda: scores.messages and subscriber.health["scores_left_out"] + len(scores.messages) == 10_000)
    # In an interval the highest of those that scored in it come first, and each later one begins with a higher one.
    highest = [each["highest"] for each in scores.messages]
    begins = [0, *(at for at in range(1, len(highest)) if highest[at] > highest[at - 1]), len(highest)]
    sizes = [end - begin for begin, end in pairwise(begins)]
    assert max(sizes) == 20
    assert "a09999" in {each["asset"] for each in scores.messages}


def test_nothing_is_kept_for_a_broker_that_is_away(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """What was scored meanwhile, from a pipe, is never told; what is scored afterwards is."""
    pipe = tmp_path / "lines"
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra='[publish]\nscores = "0.2s"')
    text = config.read_text().replace('topic = "sensors/+/pump"', f'input = "{tmp_path}/lines"')
    config.write_text(text)
    os.mkfifo(pipe)
    with Subscriber(broker.port) as subscriber, Agent(config), pipe.open("w") as lines:
        subscriber.wait_online()
        broker.stop()
        lines.write('{"asset":"gone","c1":1,"c2":0}\n')
        lines.flush()
        wait_until(lambda: _scored(tmp_path) == 1)
        time.sleep(0.6)  # three intervals
        broker.start()
        with Listener(broker.port, "scores") as scores:
            wait_until(lambda: subscriber.health.get("connects") == 2, 60)

            def is_told() -> bool:
                # For seconds nothing is told, if the agent told something before it found the connection gone.
                lines.write('{"asset":"here","c1":1,"c2":0}\n')
                lines.flush()
                return bool(scores.of("here"))

            wait_until(is_told)
            assert not scores.of("gone")


def test_a_broker_that_refuses_scores_hears_every_alert_and_few_connections(tmp_path: Path, bundle: Path) -> None:
    """Mosquitto 2.0.11 with `max_queued_messages 0` ends a connection for each message that it refuses."""
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite #\ntopic deny edge/g1/scores/#\n")
    config = write_config(tmp_path, 0, {"pump": bundle}, extra='[publish]\nscores = "0.1s"')
    with (
        Broker(tmp_path / "broker", rules=f"acl_file {rules}\n") as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
    ):
        config.write_text(config.read_text().replace("port = 0", f"port = {broker.port}"))
        with Agent(config):
            subscriber.wait_online()
            for number in range(16):
                sender.send(f"sensors/a{number % 4}/pump", {"c1": 9.0 * (number % 8 < 4), "c2": 0.0})
                time.sleep(0.5)  # longer than an interval of scores
            wait_until(lambda: len(subscriber.different) == 16)
            wait_until(lambda: subscriber.health["connects"] >= 2)
    # After some time with a pause of 5 s, and one of 10: without these, it would be eighty.
    assert subscriber.health["connects"] <= 4
    assert subscriber.health["broker"]["refused"] == {}


def _scored(folder: Path) -> int:
    """What the agent itself knows, with no broker to tell it."""
    found = [msgspec.json.decode(file.read_bytes()) for file in folder.glob("run/**/*health.json")]
    return sum(each["streams"]["pump"]["scored"] for each in found)
