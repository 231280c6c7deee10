"""Whether the interval that `edgetool calibrate` tells of a false-alarm rate keeps its word on simulated scores.

`python tools/benchmarks/simulated_rates.py` prints a table: of each process, how many of 40 files had a known rate, in
how many of these the next period of the same length lay within the interval, and in how many of all.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_agent.stream.threshold import tail_quantile
from edgetool.quality.dependence import effective_rows, interval_of

Floats = NDArray[np.float64]
Rng = np.random.Generator
ROWS = (3_000, 20_000)
SEED = 7


def like_its_neighbours(rng: Rng, rows: int, stay: float) -> Floats:
    """A series of which each row keeps a share of the one before; variance 1."""
    noise, row = rng.standard_normal(rows) * math.sqrt(1 - stay * stay), float(rng.standard_normal())
    found = np.empty(rows)
    for number in range(rows):
        row = found[number] = stay * row + noise[number]
    return found


def season(rng: Rng, rows: int) -> Floats:
    """Periods of 200 rows."""
    phase = rng.integers(200) + np.arange(rows)
    found: Floats = np.abs(rng.standard_normal(rows) + 1.5 * np.sin(2 * np.pi * phase / 200))
    return found


def bursts(rng: Rng, rows: int, apart: float, long: float) -> Floats:
    """High scores in clusters."""
    scores, start = np.abs(rng.standard_normal(rows)), rng.exponential(apart)
    while start < rows:
        length = 1 + rng.geometric(1 / long)
        scores[int(start) : int(start) + length] += 4 * rng.uniform(0.5, 1.5)
        start += length + rng.exponential(apart)
    return scores


def walk(rng: Rng, rows: int, far: float) -> Floats:
    """A level that wanders by so many standard deviations in a file, which is half of the rows."""
    level: Floats = np.cumsum(rng.standard_normal(rows)) * far / math.sqrt(rows / 2)
    return level + rng.standard_normal(rows)


def steps(rng: Rng, rows: int) -> Floats:
    """Levels that last for 1,000 rows on average."""
    levels: list[float] = []
    while len(levels) < rows:
        levels += [0.5 * rng.standard_normal()] * (1 + int(rng.exponential(1000)))
    found: Floats = np.abs(rng.standard_normal(rows) + np.array(levels[:rows]))
    return found


def regime(rng: Rng, rows: int) -> Floats:
    """Another spread from the end of the file on."""
    scores = np.abs(rng.standard_normal(rows))
    scores[rows // 2 :] *= rng.choice([0.7, 1.4])
    return scores


PROCESSES: dict[str, Callable[[Rng, int], Floats]] = {
    "independent rows": lambda rng, rows: np.abs(rng.standard_normal(rows)),
    "each row keeps 0.9 of the one before": lambda rng, rows: np.abs(like_its_neighbours(rng, rows, 0.9)),
    "seasons of 200 rows": season,
    "heavy tails (Student's t, 3)": lambda rng, rows: np.abs(rng.standard_t(3, rows)),
    "bursts of 20 rows, 1,000 apart": lambda rng, rows: bursts(rng, rows, 1000, 20),
    "bursts of 50 rows, 3,000 apart": lambda rng, rows: bursts(rng, rows, 3000, 50),
    "levels that last for 1,000 rows": steps,
    "a level that wanders by 0.3": lambda rng, rows: walk(rng, rows, 0.3),
    "a level that wanders by 1": lambda rng, rows: walk(rng, rows, 1),
    "the distance of one that wanders by 2": lambda rng, rows: np.abs(walk(rng, rows, 2)),
    "another spread after the file": regime,
}


def held(process: Callable[[Rng, int], Floats], rows: int, rate: float, files: int) -> str:
    """Of files of a process, in words."""
    rng = np.random.default_rng([SEED, rows])
    known = known_inside = all_inside = 0
    for _ in range(files):
        first, second = np.split(process(rng, 2 * rows), 2)
        told = interval_of(rate, rows, effective_rows(first, rate))
        seen = float(np.mean(second >= tail_quantile(first, 1 - told.limit_rate)))
        is_inside = told.low <= seen <= told.high
        all_inside += is_inside
        known += told.is_supported
        known_inside += is_inside and told.is_supported
    return f"{known_inside} of {known}, {all_inside} of {files}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--files", type=int, default=40)
    options = parser.parse_args()
    print("| process | " + " | ".join(f"{rows:,} rows: held where known, held of all" for rows in ROWS) + " |")
    print("| --- " * (1 + len(ROWS)) + "|")
    for name, process in PROCESSES.items():
        print(f"| {name} | " + " | ".join(held(process, rows, options.rate, options.files) for rows in ROWS) + " |")


if __name__ == "__main__":
    main()
