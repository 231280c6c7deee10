"""Two agents beside one: processor time of a reading, summed, and readings a second, on the same broker and readings.

`python tools/benchmarks/two_agents.py` prints a table. The two split the topics by their filters, or share one
subscription, of which mosquitto hands each member every other message. As in `agent_cpu.py`, all are stopped while the
broker's queue is filled, and all ways take turns; the ratio is taken turn by turn. On two cores, broker and agents
share the machine, so the sum of processor times is what says whether two cost more than one, and not the speed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from consumers import agent_command
from paho.mqtt.enums import CallbackAPIVersion
from workload import broker, cpu_seconds, fill_queue, machine, make_bundle, payloads, spread, wait_until

ASSETS = 16
_BOTH = 'sensors/{side}/{unit}"\nasset = "{side}-{unit}'
WAYS = {
    "one agent": [_BOTH],
    "two, split by filters": ["sensors/left/+", "sensors/right/+"],
    "two, shared": [f'$share/g/{_BOTH}"\nshared = "by-topic'] * 2,
}
"""What stands between the quotes of `topic`, for each agent."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One way's turn."""

    us_per_reading: float
    """Of all agents together."""
    readings_per_s: float
    shares: list[float]
    """Of each agent."""


class Counter:
    """Hears how many readings each agent has taken."""

    def __init__(self, port: int) -> None:
        self.counts: dict[str, int] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("edge/+/health")
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        stream = json.loads(message.payload)["streams"]["bench"]
        # A first start measures beside the loop, which would be measured with it.
        if stream.get("engine", {}).get("settled", True):
            self.counts[message.topic.split("/")[1]] = stream["readings"]

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def agents(
    folder: Path, bundle: Path, port: int, topics: Sequence[str]
) -> Iterator[tuple[list[subprocess.Popen[bytes]], Counter]]:
    """Agents with these topics, each settled, until the end of the block."""
    with ExitStack() as stack:
        counter = Counter(port)
        stack.callback(counter.close)
        processes = []
        for number, topic in enumerate(topics):
            own = folder / f"agent-{number}"
            own.mkdir(exist_ok=True)
            command = agent_command(own, bundle, port)
            config = own / "agent.toml"
            text = config.read_text().replace('id = "bench"', f'id = "bench-{number}"')
            text = text.replace('topic = "sensors/+/bench"', f'topic = "{topic}"')
            config.write_text(text)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(_end, process)
            processes.append(process)
        wait_until(lambda: len(counter.counts) == len(processes), 60)
        time.sleep(0.5)
        yield processes, counter


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(timeout=30)


def measure(folder: Path, bundle: Path, messages: list[bytes], *, wishes: Sequence[str], inflight: int) -> Measured:
    """Let agents drain a queue that was filled while they were stopped."""
    topics = [f"sensors/{side}/a{number}" for number in range(ASSETS) for side in ("left", "right")]
    with (
        broker(folder, inflight=inflight) as port,
        agents(folder, bundle, port, wishes) as (processes, counter),
    ):
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        fill_queue(port, messages, 1, topics)
        before, started = [cpu_seconds(process.pid) for process in processes], time.monotonic()
        for process in processes:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: sum(counter.counts.values()) >= len(messages), 240)
        seconds = time.monotonic() - started
        used = sum(cpu_seconds(process.pid) for process in processes) - sum(before)
        shares = [count / len(messages) for count in counter.counts.values()]
        return Measured(used / len(messages) * 1e6, len(messages) / seconds, shares)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=60_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=100)
    options = parser.parse_args()
    print(
        f"{machine()}, load {os.getloadavg()[0]:.1f}; {options.readings} readings of 8 floats on {2 * ASSETS} topics, "
        f"QoS 1, {options.in_flight} in flight, 1 % alerts, median of {options.turns} turns"
    )
    print("| agents | us of a reading, all together | it / one (lowest to highest) | readings/s | shares |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, options.readings)
        turns = [
            [measure(folder, bundle, messages, wishes=wishes, inflight=options.in_flight) for wishes in WAYS.values()]
            for _ in range(options.turns)
        ]
        for place, way in enumerate(WAYS):
            mine = [turn[place] for turn in turns]
            us = statistics.median(each.us_per_reading for each in mine)
            rate = statistics.median(each.readings_per_s for each in mine)
            ratio = spread([turn[place].us_per_reading / turn[0].us_per_reading for turn in turns])
            shares = " and ".join(f"{share:.0%}" for share in mine[-1].shares)
            print(f"| {way} | {us:.1f} | {ratio if place else ''} | {rate:,.0f} | {shares} |")


if __name__ == "__main__":
    main()
