"""`edgetool backfill` beside a loop of `edge-agent score`, one process an asset, on the same files.

`python tools/benchmarks/backfill.py` prints a table; it needs the extra `scale`. Both write every score and event. The
loop writes scores as CSV, which is all that it can, or, in a second row, no scores at all. They take turns, whole
processes with their start, and the ratio is taken turn by turn. Memory is the most that one worker had at once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from as_installed import as_installed
from workload import ANOMALY_EVERY, CHANNELS, HIDDEN, machine, make_bundle, spread


@dataclass(frozen=True, slots=True)
class Run:
    """One or several processes, one after the other."""

    seconds: float
    cpu_s: float
    worker_mb: float
    """The most memory (RSS) that a child of them had at once."""


def write_lake(folder: Path, *, assets: int, rows: int, days: int) -> list[list[str]]:
    """A folder `asset=…` for each asset with a Parquet file a day; gives the files of each asset."""
    basis = np.load(folder / "basis.npy")
    files: list[list[str]] = []
    for number in range(assets):
        rng = np.random.default_rng(number)
        values = np.abs(rng.standard_normal((rows, HIDDEN))) @ basis.T
        values += 0.05 * rng.standard_normal((rows, CHANNELS))
        values[::ANOMALY_EVERY, 0] += 50
        times = 1763700000.0 + np.arange(rows)
        files.append([])
        for day, at in enumerate(np.array_split(np.arange(rows), days)):
            path = folder / "lake" / f"asset=a{number}" / f"day-{day}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {f"s{place}": values[at, place] for place in range(CHANNELS)}
            pq.write_table(pa.table({"time": times[at], **columns}), path)
            files[-1].append(str(path))
    return files


def run(commands: Sequence[Sequence[str]]) -> Run:
    """Run commands one after the other, to their end."""
    before, started, most = os.times(), time.perf_counter(), [0.0]
    for command in commands:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=as_installed()) as process:
            watcher = threading.Thread(target=_watch, args=(process.pid, most))
            watcher.start()
            process.wait()
            watcher.join()
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    after = os.times()
    cpu_s = sum(after[place] - before[place] for place in (2, 3))
    return Run(time.perf_counter() - started, cpu_s, most[0])


def _watch(pid: int, most: list[float]) -> None:
    """Note the most memory that a child has had, until the process ends."""
    while psutil.pid_exists(pid):
        with suppress(psutil.Error, OSError):
            for child in psutil.Process(pid).children():
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text(encoding="ascii"))
                most[0] = max(most[0], int(found[1]) / 1024 if found else 0.0)
        with suppress(psutil.Error):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        time.sleep(0.2)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100_000, help="of each asset")
    parser.add_argument("--days", type=int, default=4, help="files of each asset")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    count = options.assets * options.rows
    print(
        f"{machine()}, load {os.getloadavg()[0]:.1f}; {options.assets} assets of {options.rows} rows in {options.days} "
        f"files, {CHANNELS} channels, 1 % far from normal, median of {options.turns} turns"
    )
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        files = write_lake(folder, assets=options.assets, rows=options.rows, days=options.days)
        score = [str(programs / "edge-agent"), "score", "--bundle", str(bundle), "--alerts", str(folder / "a.jsonl")]
        loop = [[*score, "--scores", str(folder / "s.csv"), *each] for each in files]
        bare = [[*score, *each] for each in files]
        out = folder / "out"
        fleet = [str(programs / "edgetool"), "backfill", str(bundle), "--data", str(folder / "lake"), "-o", str(out)]
        turns: list[list[Run]] = []
        for _ in range(options.turns):
            shutil.rmtree(out, ignore_errors=True)
            turns.append([run([fleet]), run(loop), run(bare)])
        print("| what | seconds | rows/s | CPU s | wall, it / backfill | CPU, it / backfill | worker, MB |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for place, what in enumerate(("backfill", "loop, scores as CSV", "loop, no scores")):
            mine = [turn[place] for turn in turns]
            seconds = statistics.median(each.seconds for each in mine)
            cpu_s = statistics.median(each.cpu_s for each in mine)
            wall = spread([turn[place].seconds / turn[0].seconds for turn in turns])
            cpu = spread([turn[place].cpu_s / turn[0].cpu_s for turn in turns])
            memory = f"{max(each.worker_mb for each in mine):.0f}" if place == 0 else ""
            shown = "| |" if place == 0 else f"| {wall} | {cpu}"
            print(f"| {what} | {seconds:.1f} | {count / seconds:,.0f} | {cpu_s:.1f} {shown} | {memory} |")


if __name__ == "__main__":
    main()
