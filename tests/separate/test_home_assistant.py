"""What Home Assistant itself makes of our discovery; `make test-homeassistant` runs it, as it needs Python 3.13."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""Home Assistant takes seconds to start, and a minute where others keep the machine busy."""
OUTPUTS = '[publish]\nscores = "0.5s"\n[homeassistant]\ndiscovery = true\n'


class HomeAssistant:
    """The core with its MQTT integration."""

    def __init__(self, port: int, log: Path) -> None:
        self.told: dict[str, Any] = {"states": {}, "devices": []}
        program, script = ROOT / ".venv-homeassistant" / "bin" / "python", ROOT / "tests" / "home_assistant_host.py"
        self.log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(program), str(script), str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told = json.loads(line)

    def wait(self, between: Callable[[], None] = lambda: None, **states: str) -> None:
        """Until these entities are so; of names, dots are two underscores.

        Args:
            between: is done before each look.
            states: by entity.
        """
        wanted = {name.replace("__", "."): state for name, state in states.items()}

        def are_so() -> bool:
            between()
            return bool(wanted.items() <= self.told["states"].items())

        wait_until(are_so, PATIENCE_S, f"{wanted}; see {self.log}")

    def __enter__(self) -> HomeAssistant:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_home_assistant_shows_an_asset_from_its_first_reading_until_it_is_forgotten(tmp_path: Path) -> None:
    """Its problem, score and limit, what is known as Home Assistant starts, and that the agent is away."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber, Sender(broker.port) as sender:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=OUTPUTS, stream="idle_s = 20")
        with Agent(config) as agent:
            subscriber.wait_online()

            def send(asset: str, value: float) -> None:
                """Again and again until it is shown: an asset that is silent meanwhile is forgotten."""
                sender.send(f"sensors/{asset}/pump", {"c1": value, "c2": 0.0})
                time.sleep(1)  # longer than an interval of scores

            send("a1", 9.0)
            wait_until(lambda: subscriber.alerts)
            with HomeAssistant(broker.port, tmp_path / "home-assistant.log") as home:
                # The alert came before; it was not retained.
                home.wait(
                    lambda: send("a1", 9.0),
                    binary_sensor__pump_a1_problem="on",
                    binary_sensor__edge_agent_g1_connectivity="on",
                )
                # Until it has subscribed to the scores, too, which are not retained.
                home.wait(
                    lambda: send("a1", 0.5),
                    binary_sensor__pump_a1_problem="off",
                    sensor__pump_a1_score="0.25",
                    sensor__pump_a1_limit="9.0",
                )

                def is_shown() -> bool:
                    send("Füll stand", 0.0)
                    return "pump Füll stand" in home.told["devices"]

                wait_until(is_shown, PATIENCE_S)
                wait_until(lambda: home.told["devices"] == ["edge-agent g1", "pump stream"], PATIENCE_S)
                assert agent.stop() == 0
                home.wait(
                    binary_sensor__pump_stream_problem="unavailable", binary_sensor__edge_agent_g1_connectivity="off"
                )
    assert "Error" not in (tmp_path / "home-assistant.log").read_text()
