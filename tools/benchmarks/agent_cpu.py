"""CPU time of the agent for each reading, beside the obvious script, on the same broker, model and readings.

`python tools/benchmarks/agent_cpu.py [--with node-red]` prints a table. Each consumer is stopped (SIGSTOP) while the
broker's queue is filled, and goes on when nobody else works but the broker: so no sender limits it, and its start is
not counted. They take turns, several times, and the ratio is taken turn by turn, because a shared machine drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from consumers import Measured, agent_command, drain, running
from node_red import install_node_red, node_red_command
from workload import broker, machine, make_bundle, payloads, spread

from edge_agent.bundle import open_bundle


class Bench:
    """The model, the readings and the consumers that are held against each other."""

    def __init__(self, folder: Path, readings: int, node_red: Path | None) -> None:
        self._folder = folder
        self._node_red = node_red
        self._bundle = make_bundle(folder)
        self._threshold = open_bundle(self._bundle).manifest.threshold.alarm
        self._messages = payloads(folder, readings)

    def turn(self, *, inflight: int, qos: int) -> list[Measured]:
        """Every consumer once, each on a fresh broker; the agent is the last."""
        return [self._measure(command, inflight, qos) for command in self._commands(qos)]

    def _commands(self, qos: int) -> Iterator[Callable[[int], list[str]]]:
        model, threshold = self._folder / "model.onnx", self._threshold
        script = [sys.executable, str(Path(__file__).with_name("obvious_script.py"))]
        yield lambda port: [*script, str(port), str(model), str(threshold), str(qos)]
        program = self._node_red
        if program is not None:
            yield lambda port: node_red_command(program, port=port, model=model, threshold=threshold, qos=qos)
        yield lambda port: agent_command(self._folder, self._bundle, port, qos=qos)

    def _measure(self, command: Callable[[int], list[str]], inflight: int, qos: int) -> Measured:
        with broker(self._folder, inflight=inflight) as port, running(command(port), port) as consumer:
            return drain(consumer, port, self._messages, qos=qos)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=60_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--with", dest="also", choices=["node-red"], help="fetches it by npm, about 400 MB")
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, median of {options.turns} turns")
    print("| QoS | in flight | consumer | us per reading | agent / it (lowest to highest) | readings/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        program = install_node_red(folder) if options.also else None
        names = ["script", "Node-RED", "agent"] if program else ["script", "agent"]
        bench = Bench(folder, options.readings, program)
        for qos, inflight in ((1, 20), (1, 1000), (0, 20)):
            turns = [bench.turn(inflight=inflight, qos=qos) for _ in range(options.turns)]
            for place, consumer in enumerate(names):
                mine = [turn[place] for turn in turns]
                beside = spread([turn[-1].us_per_reading / turn[place].us_per_reading for turn in turns])
                us = statistics.median(measured.us_per_reading for measured in mine)
                rate = statistics.median(measured.readings_per_s for measured in mine)
                shown = "" if consumer == "agent" else beside
                print(f"| {qos} | {inflight} | {consumer} | {us:.1f} | {shown} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    main()
