"""What is published beside alerts: processor time of a reading and memory with it, beside the same build without it.

`python tools/benchmarks/outputs_cost.py` prints a table. The agent drains a full queue of readings, of 10 assets and of
10,000, each drawn at random, with nothing published beside alerts, with scores and discovery, and with metrics too. The
three take turns, and the ratio is taken turn by turn. Memory is the process's share (PSS) once the queue is empty.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from consumers import Measured, agent_command, drain, running
from workload import broker, free_port, machine, make_bundle, payloads, spread

FEW, MANY = 10, 10_000
COST_BARS = {FEW: 1.05, MANY: 1.10}
SCORES = '[publish]\nscores = "5s"\n'
DISCOVERY = "[homeassistant]\ndiscovery = true\n"
METRICS = '[metrics]\nlisten = "127.0.0.1:{port}"\n'
MEMORY_BARS_MB = {"scores and discovery": 3, "and metrics": 14}


class Turn(NamedTuple):
    """One agent's turn."""

    measured: Measured
    pss_mb: float


def pss_mb(process: subprocess.Popen[bytes]) -> float:
    """Of a process, in units of 1,000,000 bytes."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024 / 1e6


def turn(folder: Path, bundle: Path, messages: list[bytes], *, assets: int, inflight: int, extra: str) -> Turn:
    """An agent on a fresh broker, first with a reading of each asset, which is not measured."""
    chosen = random.Random(1)  # the same choice in every turn
    first = [f"sensors/pump-{number}/bench" for number in range(assets)]
    rest = [f"sensors/pump-{chosen.randrange(assets)}/bench" for _ in messages[assets:]]
    with broker(folder, inflight=inflight) as port:
        command = agent_command(folder, bundle, port, extra=extra.format(port=free_port()))
        with running(command, port) as consumer:
            drain(consumer, port, messages[:assets], topics=first)
            measured = drain(consumer, port, messages[assets:], topics=rest)
            found = Turn(measured, pss_mb(consumer[0]))
            print(f"{assets} assets, {inflight} in flight, {extra!r}: {found}", file=sys.stderr, flush=True)
            return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=300_000, help="long enough for several intervals")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--assets", type=int, nargs="*", default=[FEW, MANY])
    parser.add_argument("--inflight", type=int, nargs="*", default=[20, 1000])
    parser.add_argument("--without", choices=[*MEMORY_BARS_MB], action="append", default=[], help="leaves this out")
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, QoS 1, medians of {options.turns} turns")
    print("| assets | in flight | published beside alerts | us per reading | ratio | bar | PSS MB | more | bar |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    all_builds = {
        "nothing": "",
        "scores and discovery": SCORES + DISCOVERY,
        "and metrics": SCORES + DISCOVERY + METRICS,
    }
    builds = {title: extra for title, extra in all_builds.items() if title not in options.without}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, MANY + options.readings)
        for assets in options.assets:
            for inflight in options.inflight:
                kinds = {"assets": assets, "inflight": inflight}
                turns = [
                    {
                        title: turn(folder, bundle, messages[: assets + options.readings], extra=extra, **kinds)
                        for title, extra in ([*builds.items()] if number % 2 else [*builds.items()][::-1])
                    }
                    for number in range(options.turns)
                ]
                for title in builds:
                    tell(title, turns, assets=assets, inflight=inflight)


def tell(title: str, turns: list[dict[str, Turn]], *, assets: int, inflight: int) -> None:
    """Print one row."""
    us = statistics.median(each[title].measured.us_per_reading for each in turns)
    mb = statistics.median(each[title].pss_mb for each in turns)
    ratio, more, cost_bar, memory_bar = "", "", "", ""
    if title in MEMORY_BARS_MB:
        pairs = [(each["nothing"], each[title]) for each in turns]
        ratio = spread([with_it.measured.us_per_reading / off.measured.us_per_reading for off, with_it in pairs])
        more = f"{statistics.median(with_it.pss_mb - off.pss_mb for off, with_it in pairs):+.1f}"
        cost_bar, memory_bar = f"at most {COST_BARS[assets]:.2f}", f"+{MEMORY_BARS_MB[title]}"
    row = (assets, inflight, title, f"{us:.2f}", ratio, cost_bar, f"{mb:.1f}", more, memory_bar)
    print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
