"""`edge-agent score` beside a script that reads the same file into a table and calls the runtime, whole processes.

`python tools/benchmarks/score_file.py` prints a table; it needs the extra `files`, and polars for the script:
`pip install polars`. All take turns on the same files: CSV and Parquet, with no alert and with 1 % of the rows far from
normal. These rows come one by one, so that each is a raise and a clear (20,000 events of a million rows, written to a
file), or, by the default settings, flapping. The script makes neither windows nor alarms. Start, imports and the end of
each process count. The largest memory is that of a file of five times the rows.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from workload import ANOMALY_EVERY, HIDDEN, machine, make_bundle, spread

import edge_agent

CHANNELS = 9
BARS = {"csv": 1.5, "parquet": 2.0}
LONGER = 5
MEMORY_BAR_MB = 300
SCRIPT = Path(__file__).with_name("table_script.py")
PIECE_ROWS = 100_000
CONFIG = """
[agent]
id = "bench"
[mqtt]
host = "127.0.0.1"
[engine]
provider = "cpu"
[[stream]]
name = "bench"
bundle = "{bundle}"
topic = "sensors/+/bench"
[stream.alarm]
flap_raises = 0
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    cpu_s: float
    """Of all its threads, and of processes that it has waited for."""
    memory_mb: float
    """The most that it had at once."""
    text: str
    """What it wrote to stdout."""


def write_files(folder: Path, name: str, rows: int, *, anomalies: bool) -> None:
    """A `.csv` and a `.parquet` of the same rows."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    basis = np.load(folder / "basis.npy")
    rng = np.random.default_rng(1)
    names = ["time", *(f"s{number}" for number in range(CHANNELS))]
    schema = pa.schema([(name, pa.float64()) for name in names])
    with (
        pyarrow.csv.CSVWriter(folder / f"{name}.csv", schema, write_options=_unquoted()) as text,
        pyarrow.parquet.ParquetWriter(folder / f"{name}.parquet", schema) as packed,
    ):
        for start in range(0, rows, PIECE_ROWS):
            count = min(PIECE_ROWS, rows - start)
            values = np.abs(rng.standard_normal((count, HIDDEN))) @ basis.T
            values += 0.05 * rng.standard_normal((count, CHANNELS))
            if anomalies:
                values[::ANOMALY_EVERY, 0] += 50
            columns = [1763700000.0 + np.arange(start, start + count), *values.round(4).T]
            table = pa.table(dict(zip(names, columns, strict=True)), schema=schema)
            text.write_table(table)
            packed.write_table(table)


def _unquoted() -> object:
    import pyarrow.csv

    return pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")


def run(*command: str | Path) -> Run:
    """Run a process to its end."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


class Bench:
    """The files and the commands of both."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder = folder
        bundle = make_bundle(folder, channels=CHANNELS)
        (folder / "agent.toml").write_text(CONFIG.format(bundle=bundle), encoding="utf-8")
        for name, anomalies in (("calm", False), ("alerts", True)):
            write_files(folder, name, rows, anomalies=anomalies)
        self._given = {
            "none": ("calm", ("--config", folder / "agent.toml")),
            "1 %, one by one": ("alerts", ("--config", folder / "agent.toml")),
            "1 %, flapping": ("alerts", ("--bundle", bundle)),
        }

    @property
    def kinds(self) -> list[str]:
        """What alerts there are."""
        return list(self._given)

    def score(self, kind: str, ending: str) -> Run:
        """`edge-agent score`."""
        name, given = self._given[kind]
        agent = Path(sys.executable).with_name("edge-agent")
        alerts = ("--alerts", self._folder / "alerts.jsonl")
        return run(agent, "score", self._folder / f"{name}.{ending}", *given, *alerts)

    def script(self, kind: str, ending: str) -> Run:
        """The script, on the same file."""
        name, _ = self._given[kind]
        return run(sys.executable, SCRIPT, self._folder / f"{name}.{ending}", self._folder / "model.onnx")


def check(score: Run, script: Run) -> None:
    """Both have scored the same rows; another batch changes a score in its last digits."""
    rows, highest = script.text.split()
    told = dict(part.rsplit(" ", 1) for part in score.text.strip().split(", "))
    assert told["scored"] == rows, (score.text, script.text)
    assert abs(float(told["score_max"]) / float(highest) - 1) < 1e-5, (score.text, script.text)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    # As an installed wheel is, whatever the environment says: else each start compiles the package anew.
    compileall.compile_dir(Path(edge_agent.__file__).parent, quiet=1)
    print(f"{machine()}; {options.rows} rows of {CHANNELS} channels and a time, median of {options.turns} turns")
    heads = "file | alerts | script s | score s | ratio (lowest to highest) | bar | of processor time"
    print(f"| {heads} | score MB | script MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        bench = Bench(Path(name), options.rows)
        for ending, bar in BARS.items():
            for kind in bench.kinds:
                turns = [(bench.script(kind, ending), bench.score(kind, ending)) for _ in range(options.turns + 1)][1:]
                check(turns[0][1], turns[0][0])
                script, score = (statistics.median(turn[side].seconds for turn in turns) for side in (0, 1))
                ratios = [score.seconds / script.seconds for script, score in turns]
                cpu = [score.cpu_s / script.cpu_s for script, score in turns]
                memory, other = (max(turn[side].memory_mb for turn in turns) for side in (1, 0))
                print(
                    f"| {ending} | {kind} | {script:.2f} | {score:.2f} | {spread(ratios)} | at most {bar} "
                    f"| {spread(cpu)} | {memory:.0f} | {other:.0f} |",
                    flush=True,
                )
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        bench = Bench(Path(name), LONGER * options.rows)
        for ending in BARS:
            memory = bench.score("1 %, one by one", ending).memory_mb
            print(
                f"| {ending}, {LONGER} times the rows | 1 % | | | | at most {MEMORY_BAR_MB} MB | | {memory:.0f} | |",
                flush=True,
            )


if __name__ == "__main__":
    main()
