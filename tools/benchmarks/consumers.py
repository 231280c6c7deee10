"""What drains a broker's queue in the benchmarks: how the agent is started, and how any consumer is measured."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from workload import TOPIC, cpu_seconds, fill_queue, wait_until

__all__ = ["LAST_TOPIC", "Counter", "Measured", "agent_command", "drain", "running"]

LAST_TOPIC = "sensors/last/bench"
"""A raising reading of this asset is the end of a measured queue."""
_CONFIG = """\
[agent]
id = "bench"
state_dir = "{folder}/state-{port}"
health_interval_s = {health_interval_s}
[mqtt]
port = {port}
protocol = "3.1.1"
keepalive_s = 600
[engine]
{engine}
{extra}
[[stream]]
name = "bench"
bundle = "{bundle}"
topic = "sensors/+/bench"
qos = {qos}
[stream.alarm]
flap_raises = 0
"""
"""Without the end of a flood, so that every anomaly costs its alert."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One consumer's turn."""

    us_per_reading: float
    """CPU time of the process with all its threads."""
    readings_per_s: float


class Counter:
    """Hears how many readings a consumer has taken, and when it was done with the last one."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.online = threading.Event()
        self.done_mono_s: float | None = None
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        topics = ("edge/bench/health", "bench/count", "bench/done", "edge/bench/alerts/bench/last")
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 0) for topic in topics])
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.retain:
            return  # of an agent that ran before
        if message.topic in {"bench/done", "edge/bench/alerts/bench/last"}:
            self.done_mono_s = time.monotonic()
            return
        document = json.loads(message.payload)
        if isinstance(document, int):
            self.count = document
            self.online.set()
            return
        stream = document["streams"]["bench"]
        self.count = stream["readings"]
        # A first start measures beside the loop, which would be measured with it.
        if stream.get("engine", {}).get("settled", True):
            self.online.set()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


def agent_command(
    folder: Path,
    bundle: Path,
    port: int,
    *,
    qos: int = 1,
    engine: str = 'provider = "cpu"',
    health_interval_s: float = 0.5,
    extra: str = "",
) -> list[str]:
    """Write an `agent.toml` and give the command that runs the agent with it.

    With MQTT 3.1.1 the broker sends as many unacknowledged messages as its `max_inflight_messages` says; with MQTT 5
    mosquitto sends as many as the client asks for.
    """
    config = folder / "agent.toml"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            port=port,
            bundle=bundle,
            qos=qos,
            engine=engine,
            health_interval_s=health_interval_s,
            extra=extra,
        )
    )
    agent = str(Path(sys.executable).with_name("edge-agent"))
    return [agent, "run", "--config", str(config), "--log-level", "warning"]


@contextmanager
def running(command: list[str], port: int) -> Iterator[tuple[subprocess.Popen[bytes], Counter]]:
    """A consumer that has come to the broker, until the end of the block."""
    counter = Counter(port)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not counter.online.wait(60):
            raise TimeoutError(f"{command[1]} did not start")
        time.sleep(0.5)
        yield process, counter
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        counter.close()


def drain(
    consumer: tuple[subprocess.Popen[bytes], Counter],
    port: int,
    messages: list[bytes],
    *,
    qos: int = 1,
    topics: Sequence[str] = (TOPIC,),
    cpu: Callable[[int], float] = cpu_seconds,
) -> Measured:
    """Fill the broker's queue while a consumer is stopped, and measure it while it drains the queue.

    So no sender limits it, and its start is not counted. `cpu` gives the processor time of a process, seconds.
    """
    process, counter = consumer
    wanted = counter.count + len(messages)
    process.send_signal(signal.SIGSTOP)
    fill_queue(port, messages, qos, topics)
    before, started = cpu(process.pid), time.monotonic()
    counter.done_mono_s = None
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: counter.count >= wanted, 240)
    # The count comes twice a second only; a consumer that tells its end is timed by that.
    seconds = (counter.done_mono_s or time.monotonic()) - started
    used = cpu(process.pid) - before
    return Measured(us_per_reading=used / len(messages) * 1e6, readings_per_s=len(messages) / seconds)
