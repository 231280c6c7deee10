"""Readings per second of the agent at QoS 1, beside a paho subscriber that only counts.

`python tools/benchmarks/agent_throughput.py` prints a table. Both drain a queue that the broker holds already. The time
ends with what they make of the last reading: the agent's alert, committed before, and the subscriber's message. The two
take turns, and the ratio is taken turn by turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from consumers import LAST_TOPIC, Measured, agent_command, drain, running
from workload import TOPIC, broker, machine, make_bundle, payloads, spread

BAR = 0.75


def rate(command: list[str], port: int, messages: list[bytes]) -> Measured:
    """One consumer's turn; the last message is of an asset of its own."""
    with running(command, port) as consumer:
        return drain(consumer, port, messages, topics=[TOPIC] * (len(messages) - 1) + [LAST_TOPIC])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=100_001)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, QoS 1, median of {options.turns} turns")
    print("| in flight | subscriber readings/s | agent readings/s | ratio (lowest to highest) | bar |")
    print("| --- | --- | --- | --- | --- |")
    subscriber = [sys.executable, str(Path(__file__).with_name("bare_subscriber.py"))]
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, options.readings)
        messages[-1] = messages[0]  # far from normal, so that it raises an alert
        for inflight in (20, 1000):
            turns: list[tuple[float, float]] = []
            for _ in range(options.turns):
                with broker(folder, inflight=inflight) as port:
                    bare = rate([*subscriber, str(port)], port, messages)
                with broker(folder, inflight=inflight) as port:
                    agent = rate(agent_command(folder, bundle, port), port, messages)
                turns.append((bare.readings_per_s, agent.readings_per_s))
            ratios = [agent_rate / bare_rate for bare_rate, agent_rate in turns]
            print(
                f"| {inflight} | {statistics.median(pair[0] for pair in turns):.0f} "
                f"| {statistics.median(pair[1] for pair in turns):.0f} "
                f"| {spread(ratios)} | at least {BAR} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
