"""Speed of `edge-agent score` on a million rows, beside nothing but inference on ready batches.

`python tools/benchmarks/score_file.py` prints a table. Both score the same rows with the same session options, in
turns: one with all that a stream does (windows, alarms, drift), on two threads where there are two cores, the other by
`session.run` on batches that are float32 already, on one. Reading the file is in neither. An alert here is a raise and
a clear, so `1 %` makes 20,000 events; they become text only when they are written, and how fast all of it is then
stands in a column of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from workload import ANOMALY_EVERY, CHANNELS, HIDDEN, machine, make_bundle, spread

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.data_files import SensorData
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import open_engine
from edge_agent.messages.scores import Engine
from edge_agent.messages.text import encode
from edge_agent.offline import score_data
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import StreamSettings

BATCH_ROWS = 4096
BAR = 0.7
EVERY_ALERT = StreamSettings(alarm=AlarmSettings(flap_raises=0))
"""All rows are of one asset, whose alerts would be flapping after the tenth."""


def make_data(folder: Path, rows: int) -> SensorData:
    """Rows such as an .npz gives; every hundredth is far from normal."""
    basis = np.load(folder / "basis.npy")
    rng = np.random.default_rng(1)
    values = np.abs(rng.standard_normal((rows, HIDDEN))) @ basis.T + 0.05 * rng.standard_normal((rows, CHANNELS))
    values[::ANOMALY_EVERY, 0] += 50
    names = tuple(f"s{number}" for number in range(CHANNELS))
    return SensorData(folder / "rows.npz", names, values, times=None, assets=None, labels=None)


def bare_seconds(engine: Engine, windows: np.ndarray) -> float:
    """Inference on ready batches, one after the other."""
    started = time.perf_counter()
    for start in range(0, len(windows), BATCH_ROWS):
        engine.score(windows[start : start + BATCH_ROWS])
    return time.perf_counter() - started


def score_seconds(data: SensorData, bundle: Bundle, engine: Engine, helper: Engine) -> tuple[float, float]:
    """What `edge-agent score` does between reading and writing, and the same with every event made into JSON."""
    started = time.perf_counter()
    names = {"agent": "bench", "stream": "bench", "provider": "cpu"}
    report = score_data(data, bundle, engine, helper=helper, settings=EVERY_ALERT, **names)
    seconds = time.perf_counter() - started
    assert report.scored == len(data)
    for event in report.events():
        encode(event)
    return seconds, time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    print(f"{machine()}; {options.rows} rows of {CHANNELS} channels, median of {options.turns} turns")
    print(
        "| autoencoder | alerts | inference alone rows/s | score rows/s | ratio (lowest to highest) | bar | with JSON |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        for hidden in (HIDDEN, 256):
            folder = Path(name)
            bundle = open_bundle(make_bundle(folder, hidden=hidden))
            engine, helper = (open_engine(bundle.model, PROVIDERS["cpu"]) for _ in range(2))
            raising = make_data(folder, options.rows)
            calm = SensorData(raising.path, raising.channels, raising.values.copy(), None, None, None)
            calm.values[::ANOMALY_EVERY, 0] -= 50
            for title, data in (("none", calm), ("1 %", raising)):
                windows = data.values.astype(np.float32)[:, np.newaxis, :]
                turns = [
                    (bare_seconds(engine, windows), *score_seconds(data, bundle, engine, helper))
                    for _ in range(options.turns)
                ]
                bare, score, written = (options.rows / statistics.median(column) for column in zip(*turns, strict=True))
                print(
                    f"| {CHANNELS}-{hidden}-{CHANNELS} | {title} | {bare:,.0f} | {score:,.0f} "
                    f"| {spread([turn[0] / turn[1] for turn in turns])} | at least {BAR} | {written:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
