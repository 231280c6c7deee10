"""CPU time of the agent for each reading, beside the obvious script, on the same broker, model and readings.

`python tools/benchmarks/agent_cpu.py` prints a table. Each consumer is stopped (SIGSTOP) while the broker's queue is
filled, and goes on when nobody else works but the broker: so no sender limits it, and its start is not counted. The
two take turns, several times, and the ratio is taken turn by turn, because a shared machine drifts.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from workload import broker, cpu_seconds, fill_queue, machine, make_bundle, payloads, wait_until

from edge_agent.bundle import open_bundle

AGENT_CONFIG = """\
[agent]
id = "bench"
state_dir = "{folder}/state-{port}"
health_interval_s = 0.5
[mqtt]
port = {port}
keepalive_s = 600
[engine]
provider = "cpu"
[[stream]]
name = "bench"
bundle = "{bundle}"
topic = "sensors/+/bench"
qos = {qos}
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One consumer's turn."""

    us_per_reading: float
    readings_per_s: float


class Counter:
    """Hears how many readings a consumer has scored."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.online = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe([("edge/bench/health", 0), ("bench/count", 0)])
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        document = json.loads(message.payload)
        self.count = document if isinstance(document, int) else document["streams"]["bench"]["scored"]
        self.online.set()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


def measure(command: list[str], port: int, messages: list[bytes], qos: int) -> Measured:
    """Start a consumer, let it drain a full queue, and stop it."""
    counter = Counter(port)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not counter.online.wait(60):
            raise TimeoutError(f"{command[1]} did not start")
        time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)
        fill_queue(port, messages, qos)
        before, started = cpu_seconds(process.pid), time.monotonic()
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: counter.count >= len(messages), 120)
        seconds = time.monotonic() - started
        used = cpu_seconds(process.pid) - before
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(timeout=20)
        counter.close()
    return Measured(us_per_reading=used / len(messages) * 1e6, readings_per_s=len(messages) / seconds)


def turn(folder: Path, bundle: Path, messages: list[bytes], *, inflight: int, qos: int) -> tuple[Measured, Measured]:
    """Script and agent once each, each on a fresh broker."""
    threshold = open_bundle(bundle).manifest.threshold.alarm
    with broker(folder, inflight=inflight) as port:
        script = [sys.executable, str(Path(__file__).with_name("obvious_script.py"))]
        first = measure([*script, str(port), str(folder / "model.onnx"), str(threshold), str(qos)], port, messages, qos)
    with broker(folder, inflight=inflight) as port:
        config = folder / "agent.toml"
        config.write_text(AGENT_CONFIG.format(folder=folder, port=port, bundle=bundle, qos=qos))
        agent = str(Path(sys.executable).with_name("edge-agent"))
        second = measure([agent, "run", "--config", str(config), "--log-level", "warning"], port, messages, qos)
    return first, second


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=60_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, median of {options.turns} turns")
    print("| QoS | in flight | script us | agent us | ratio | script readings/s | agent readings/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, options.readings)
        for qos, inflight in ((1, 20), (1, 1000), (0, 20)):
            turns = [turn(folder, bundle, messages, inflight=inflight, qos=qos) for _ in range(options.turns)]
            ratio = statistics.median(agent.us_per_reading / script.us_per_reading for script, agent in turns)
            columns = [
                statistics.median(getattr(pair[side], figure) for pair in turns)
                for figure in ("us_per_reading", "readings_per_s")
                for side in (0, 1)
            ]
            cpu_script, cpu_agent, rate_script, rate_agent = columns
            print(
                f"| {qos} | {inflight} | {cpu_script:.1f} | {cpu_agent:.1f} | {ratio:.2f} "
                f"| {rate_script:.0f} | {rate_agent:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
