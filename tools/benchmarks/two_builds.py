"""This build of the agent beside another one: processor time of a reading, readings per second, and start.

`python tools/benchmarks/two_builds.py OTHER/.venv/bin/edge-agent` prints a table. The two take turns, with the same
broker, model and readings, and change places from turn to turn. The ratio is taken turn by turn. Make the other one by
`git worktree add OTHER COMMIT && make -C OTHER setup`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from agent_idle import start_seconds
from consumers import LAST_TOPIC, Measured, agent_command, drain, running
from workload import ANOMALY_EVERY, TOPIC, broker, machine, make_bundle, payloads, spread

COST_BAR = 1.02
RATE_BAR = 0.98


class Builds:
    """The two programs, the one bundle and the readings of both."""

    def __init__(self, folder: Path, other: Path, readings: int, *, window: int) -> None:
        self._folder = folder
        self._programs = {"other": str(other), "this": str(Path(sys.executable).with_name("edge-agent"))}
        self._bundle = make_bundle(folder, window=window)
        self._messages = payloads(folder, readings)
        # Far from normal, so that they raise the alert that ends the queue.
        self._messages[-window:] = self._messages[: ANOMALY_EVERY * window : ANOMALY_EVERY]
        self._topics = [TOPIC] * (readings - window) + [LAST_TOPIC] * window

    def drained(self, turn: int, *, inflight: int) -> dict[str, Measured]:
        """Both builds on a full queue, one after the other."""
        return {name: self._drain(name, inflight) for name in self._order(turn)}

    def started(self, turn: int) -> dict[str, float]:
        """Seconds from the start of the process to READY of both, one after the other; the provider is remembered."""
        with broker(self._folder, inflight=20) as port:
            return {name: start_seconds(self._command(name, port), self._folder) for name in self._order(turn)}

    def remember(self) -> None:
        """A first start of each settles what the starts that are measured find."""
        for name in self._programs:
            with broker(self._folder, inflight=20) as port, running(self._command(name, port), port):
                pass

    def _order(self, turn: int) -> list[str]:
        return [*self._programs] if turn % 2 else [*self._programs][::-1]

    def _command(self, name: str, port: int) -> list[str]:
        state = self._folder / name
        state.mkdir(exist_ok=True)
        _, *options = agent_command(state, self._bundle, port)
        # One state folder for all starts of a build, which the configuration names by the port.
        return [self._programs[name], *options, "--set", f"agent.state_dir={state}"]

    def _drain(self, name: str, inflight: int) -> Measured:
        # The same readings come in each turn, and would be known from the one before.
        for file in (self._folder / name).glob("journal.db*"):
            file.unlink()
        with broker(self._folder, inflight=inflight) as port, running(self._command(name, port), port) as consumer:
            return drain(consumer, port, self._messages, topics=self._topics)


def row(name: str, pairs: list[tuple[float, float]], unit: str, bar: str) -> str:
    """One line of the table.

    Args:
        name: of the figure.
        pairs: the other's and this one's, for each turn.
        unit: of both.
        bar: of the ratio.
    """
    other, this = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
    return f"| {name} | {other:.4g} {unit} | {this:.4g} {unit} | {spread([b / a for a, b in pairs])} | {bar} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the edge-agent program of the other build")
    parser.add_argument("--readings", type=int, default=60_001)
    parser.add_argument("--window", type=int, default=1, help="rows of a window")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, QoS 1; medians of {options.turns} turns")
    print(f"windows of {options.window}")
    print("| figure | other build | this build | this / other (lowest to highest) | bar |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        builds = Builds(Path(name), options.other.absolute(), options.readings, window=options.window)
        # Builds before 2026-11-28 start their children with the working folder on the path, where this build may lie.
        os.chdir(name)
        for inflight in (20, 1000):
            turns = [builds.drained(turn, inflight=inflight) for turn in range(options.turns)]
            cost = [(turn["other"].us_per_reading, turn["this"].us_per_reading) for turn in turns]
            rate = [(turn["other"].readings_per_s, turn["this"].readings_per_s) for turn in turns]
            print(row(f"processor time of a reading, {inflight} in flight", cost, "us", f"at most {COST_BAR}"))
            print(row(f"throughput, {inflight} in flight", rate, "/s", f"at least {RATE_BAR}"), flush=True)
        builds.remember()
        starts = [builds.started(turn) for turn in range(options.starts)]
        print(row("start to READY", [(each["other"], each["this"]) for each in starts], "s", f"at most {COST_BAR}"))


if __name__ == "__main__":
    main()
