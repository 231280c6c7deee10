"""A plant's mosquitto that hands what agents tell to a central one, by the file of docs/integrations."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from processes import Agent, Broker, Sender, Subscriber, tool, wait_until, write_config
from proxy import Proxy
from telling import Neighbour

BRIDGE = Path(__file__).parents[2] / "docs" / "integrations" / "mosquitto-bridge.conf"


def test_alerts_reach_the_central_broker_though_it_was_away(tmp_path: Path, bundle: Path) -> None:
    """What is told meanwhile waits at the plant, and comes in its order; status and health come, too."""
    with Broker(tmp_path / "central") as central, Proxy(central.port) as way:
        text = BRIDGE.read_text().replace("CENTRAL:1883", f"127.0.0.1:{way.port}").replace("PLANT", "hall-7")
        with (
            Broker(tmp_path / "plant", rules=f"\n{text}") as plant,
            Subscriber(plant.port) as here,
            Subscriber(central.port) as there,
            Sender(plant.port) as sender,
            Agent(write_config(tmp_path, plant.port, {"pump": bundle})),
        ):
            there.wait_online()
            wait_until(lambda: there.health, what="the health message at the central broker")
            sender.send("sensors/a1/pump", {"time": 1763700000, "c1": 3, "c2": 0})
            there.wait_events("raise")
            way.weather.resets = 1.0
            sender.send("sensors/a1/pump", {"time": 1763700001, "c1": 0, "c2": 0})
            sender.send("sensors/a1/pump", {"time": 1763700002, "c1": 4, "c2": 0})
            here.wait_events("raise", "clear", "raise")
            assert len(there.alerts) == 1
            way.weather.resets = 0.0
            there.wait_events("raise", "clear", "raise", timeout_s=60)
            assert [alert.id for alert in there.alerts] == [alert.id for alert in here.alerts]
            # A person who looks there finds the status and the events as if the agent were there, and nothing doubtful.
            watched = [tool("edgetool"), "watch", "--port", str(central.port), "--json", "--count", "1"]
            with subprocess.Popen(watched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                assert process.stderr.readline().startswith("watching ")
                sender.send("sensors/a1/pump", {"time": 1763700003, "c1": 0, "c2": 0})
                out, _ = process.communicate(timeout=60)
            found = json.loads(out)
            assert (found["event"], found["doubts"]) == ("clear", [])


def test_what_people_say_of_an_alert_is_known_on_both_sides(tmp_path: Path) -> None:
    """Also what is taken back, and nothing goes round."""
    with Broker(tmp_path / "central") as central:
        text = BRIDGE.read_text().replace("CENTRAL:1883", f"127.0.0.1:{central.port}").replace("PLANT", "hall-7")
        with (
            Broker(tmp_path / "plant", rules=f"\n{text}") as plant,
            Marks(plant.port) as here,
            Marks(central.port) as there,
        ):
            central.wait_subscribed("edge/+/marks/+", client_id="bridge-hall-7")
            for number, (one, other) in enumerate([(here, there), (there, here), (here, there)]):
                one.say(f"{number}")
                wait_until(lambda number=number, other=other: other.said[-1:] == [f"{number}"])  # type: ignore[misc]
            there.say("")
            wait_until(lambda: here.said[-1:] == [""])
            here.say("end")
            wait_until(lambda: here.said[-1:] == there.said[-1:] == ["end"])
            assert here.said == there.said == ["0", "1", "2", "", "end"]


class Marks(Neighbour):
    """A dashboard as far as the mark of one alert goes."""

    def __init__(self, port: int) -> None:
        self.said: list[str] = []
        super().__init__(port, lambda _topic, payload: self.said.append(payload.decode()), "edge/+/marks/+")

    def say(self, text: str) -> None:
        self.client.publish("edge/g1/marks/a", text, qos=1, retain=True)
