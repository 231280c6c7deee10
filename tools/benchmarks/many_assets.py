"""CPU time of the agent for each reading with 10,000 assets on one stream, beside that with 10.

`python tools/benchmarks/many_assets.py` prints a table. The agent first meets 10,000 readings, as many of each asset
(`first contact`); then comes the workload, each reading of an asset drawn at random (`steady`). The two take turns,
and the ratio is taken turn by turn.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path

from consumers import Measured, agent_command, drain, running
from workload import broker, machine, make_bundle, payloads, spread

FEW = 10
MANY = 10_000
BAR = 1.3


def turn(folder: Path, bundle: Path, messages: list[bytes], *, assets: int, inflight: int) -> tuple[Measured, Measured]:
    """An agent on a fresh broker: its first contact with all assets, then the rest of the readings."""
    chosen = random.Random(1)  # the same choice in every turn
    first = [f"sensors/pump-{number % assets}/bench" for number in range(MANY)]
    rest = [f"sensors/pump-{chosen.randrange(assets)}/bench" for _ in messages[MANY:]]
    with (
        broker(folder, inflight=inflight) as port,
        running(agent_command(folder, bundle, port), port) as consumer,
    ):
        contact = drain(consumer, port, messages[:MANY], topics=first)
        return contact, drain(consumer, port, messages[MANY:], topics=rest)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=60_000, help="of the steady part")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, QoS 1, median of {options.turns} turns")
    print(f"| in flight | part | us with {FEW} assets | us with {MANY:,} | ratio (lowest to highest) | bar |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, MANY + options.readings)
        for inflight in (20, 1000):
            turns = [
                [turn(folder, bundle, messages, assets=assets, inflight=inflight) for assets in (FEW, MANY)]
                for _ in range(options.turns)
            ]
            for part, title, bar in ((1, "steady", f"at most {BAR}"), (0, "first contact", "none")):
                pairs = [(few[part].us_per_reading, many[part].us_per_reading) for few, many in turns]
                ratios = [many_us / few_us for few_us, many_us in pairs]
                print(
                    f"| {inflight} | {title} | {statistics.median(pair[0] for pair in pairs):.1f} "
                    f"| {statistics.median(pair[1] for pair in pairs):.1f} "
                    f"| {spread(ratios)} | {bar} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
