"""`edge-agent score` beside a script that reads the same file into a table and calls the runtime, whole processes.

`python tools/benchmarks/score_file.py` prints a table; it needs the extra `files`, and polars for the script:
`pip install polars`. All take turns on the same files: CSV and Parquet, with no alert and with 1 % of the rows far from
normal. These rows come one by one, so that each is a raise and a clear (20,000 events of a million rows, written to a
file), or, by the default settings, flapping. The script makes neither windows nor alarms. Start, imports and the end of
each process count. The largest memory is that of a file of five times the rows.

`--evaluate` sets `edgetool evaluate` beside `edge-agent score` in place of all that, on the same files with labels: the
anomalies one by one, or in 40 events of 1 % of the rows together. `--memory ROWS` measures nothing but the largest
memory, on files of so many rows.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from as_installed import as_installed
from numpy.typing import NDArray
from workload import ANOMALY_EVERY, HIDDEN, machine, make_bundle, spread

import edge_agent
import edgetool

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
CHANNELS = 9
BARS = {"csv": 1.5, "parquet": 2.0}
EVALUATE_BAR = 2.0
LONGER = 5
EVENTS = 40
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


def write_files(
    folder: Path, name: str, rows: int, *, anomalies: Callable[[Ints], Bools], labels: bool = False
) -> None:
    """A `.csv` and a `.parquet` of the same rows.

    Args:
        folder: for both.
        name: without the ending.
        rows: how many.
        anomalies: says of the numbers of rows which are far from normal.
        labels: whether the files have a column that says the same.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    basis = np.load(folder / "basis.npy")
    rng = np.random.default_rng(1)
    names = ["time", *(f"s{number}" for number in range(CHANNELS)), *(["label"] if labels else [])]
    schema = pa.schema([(name, pa.float64()) for name in names])
    with (
        pyarrow.csv.CSVWriter(folder / f"{name}.csv", schema, write_options=_unquoted()) as text,
        pyarrow.parquet.ParquetWriter(folder / f"{name}.parquet", schema) as packed,
    ):
        for start in range(0, rows, PIECE_ROWS):
            number = np.arange(start, min(start + PIECE_ROWS, rows))
            values = np.abs(rng.standard_normal((len(number), HIDDEN))) @ basis.T
            values += 0.05 * rng.standard_normal((len(number), CHANNELS))
            is_far = anomalies(number)
            values[is_far, 0] += 50
            columns = [1763700000.0 + number, *values.round(4).T, *([is_far.astype(float)] if labels else [])]
            table = pa.table(dict(zip(names, columns, strict=True)), schema=schema)
            text.write_table(table)
            packed.write_table(table)


def _unquoted() -> object:
    import pyarrow.csv

    return pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")


def run(*command: str | Path) -> Run:
    """Run a process to its end."""
    started = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=as_installed())
    assert process.stdout is not None
    with ThreadPoolExecutor(max_workers=1) as beside:
        memory_mb = beside.submit(_most_memory_mb, process.pid)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, memory_mb.result(), text)


def _most_memory_mb(pid: int) -> float:
    """The most memory that a process has had when it ends.

    Not `ru_maxrss`, which begins with what this process has: a child runs in its memory until it loads its program.
    """
    most_mb = 0.0
    with suppress(OSError):
        while found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii")):
            most_mb = int(found[1]) / 1024
            time.sleep(0.01)
    return most_mb


class Bench:
    """The files and the commands.

    Args:
        folder: for all.
        rows: of each file.
        labels: whether the files are for `edgetool evaluate`.
    """

    def __init__(self, folder: Path, rows: int, *, labels: bool = False) -> None:
        self._folder = folder
        self._bundle = make_bundle(folder, channels=CHANNELS)
        (folder / "agent.toml").write_text(CONFIG.format(bundle=self._bundle), encoding="utf-8")
        each = rows // EVENTS
        shapes: dict[str, Callable[[Ints], Bools]] = {
            "calm": lambda number: number < 0,
            "alerts": lambda number: number % ANOMALY_EVERY == 0,
            "events": lambda number: number % each < each // ANOMALY_EVERY,
        }
        every_alert, flapping = ("--config", folder / "agent.toml"), ("--bundle", self._bundle)
        if labels:
            self._given = {"1 %, one by one": ("alerts", every_alert), f"1 %, {EVENTS} events": ("events", every_alert)}
        else:
            self._given = {
                "none": ("calm", every_alert),
                "1 %, one by one": ("alerts", every_alert),
                "1 %, flapping": ("alerts", flapping),
            }
        for name in {name: None for name, _ in self._given.values()}:
            write_files(folder, name, rows, anomalies=shapes[name], labels=labels)

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

    def evaluate(self, kind: str, ending: str) -> Run:
        """`edgetool evaluate`."""
        name, _ = self._given[kind]
        tool = Path(sys.executable).with_name("edgetool")
        return run(tool, "evaluate", self._bundle, "--data", self._folder / f"{name}.{ending}", "--json")

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


def against_script(options: argparse.Namespace) -> None:
    """`edge-agent score` beside the script."""
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


def against_evaluate(options: argparse.Namespace) -> None:
    """`edgetool evaluate` beside `edge-agent score`."""
    print(
        f"{machine()}; {options.rows} rows of {CHANNELS} channels, a time and a label, median of {options.turns} turns"
    )
    print(
        "| file | labelled | score CPU s | evaluate CPU s | ratio (lowest to highest) | bar | of time | evaluate MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        bench = Bench(Path(name), options.rows, labels=True)
        for ending in BARS:
            for kind in bench.kinds:
                turns = [(bench.score(kind, ending), bench.evaluate(kind, ending)) for _ in range(options.turns + 1)][
                    1:
                ]
                score, evaluate = (statistics.median(turn[side].cpu_s for turn in turns) for side in (0, 1))
                ratios = [evaluate.cpu_s / score.cpu_s for score, evaluate in turns]
                seconds = [evaluate.seconds / score.seconds for score, evaluate in turns]
                memory = max(turn[1].memory_mb for turn in turns)
                print(
                    f"| {ending} | {kind} | {score:.2f} | {evaluate:.2f} | {spread(ratios)} | at most {EVALUATE_BAR} "
                    f"| {spread(seconds)} | {memory:.0f} |",
                    flush=True,
                )


def largest_memory(rows: int) -> None:
    """The most memory that `edge-agent score` takes for files of so many rows."""
    print("\n| file | rows | alerts | score s | score MB | bar |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        bench = Bench(Path(name), rows)
        for ending in BARS:
            for kind in bench.kinds:
                found = bench.score(kind, ending)
                print(
                    f"| {ending} | {rows} | {kind} | {found.seconds:.1f} | {found.memory_mb:.0f} "
                    f"| at most {MEMORY_BAR_MB} MB |",
                    flush=True,
                )


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--evaluate", action="store_true", help="edgetool evaluate beside edge-agent score")
    parser.add_argument("--memory", type=int, metavar="ROWS", help="only the largest memory, on files of so many rows")
    options = parser.parse_args()
    # As an installed wheel is, whatever the environment says: else each start compiles the package anew.
    for package in (edge_agent, edgetool):
        compileall.compile_dir(Path(str(package.__file__)).parent, quiet=1)
    if options.memory:
        largest_memory(options.memory)
    elif options.evaluate:
        against_evaluate(options)
    else:
        against_script(options)
        largest_memory(LONGER * options.rows)


if __name__ == "__main__":
    main()
