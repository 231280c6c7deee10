"""Our forms of scikit-learn's estimators beside those of skl2onnx, in one runtime, in turns.

Of each: seconds to load, microseconds a row in batches, and largest difference from scikit-learn. PyOD's KNN stands
beside skl2onnx's NearestNeighbors. With --pack: processor time of `edgetool pack` of a forest, child processes too.
Usage: python tools/benchmarks/exported.py [--turns 7] [--points 5000] [--rows 2000] [--batch 512] [--pack]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from as_installed import as_installed
from numpy.typing import NDArray
from pyod.models.knn import KNN
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from edge_agent.engine.providers import import_runtime
from edgetool.frameworks.sklearn.convert import convert

OPSETS = {"": 17, "ai.onnx.ml": 3}


def session_of(model: bytes) -> tuple[Any, float]:
    """A session with one thread, and the seconds that it took."""
    ort = import_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    started = time.perf_counter()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - started


def microseconds_a_row(
    session: Any, rows: NDArray[np.float32], output: str, batch: int
) -> tuple[float, NDArray[np.float64]]:
    """Of all rows in batches, and the answers: of several distances the largest."""
    name = session.get_inputs()[0].name
    started = time.perf_counter()
    parts = [session.run([output], {name: rows[i : i + batch]})[0] for i in range(0, len(rows), batch)]
    spent = time.perf_counter() - started
    return spent / len(rows) * 1e6, np.concatenate(parts).reshape(len(rows), -1)[:, -1].astype(np.float64)


def pack_cost(turns: int, trained: NDArray[np.float64]) -> None:
    """Print the processor time of `edgetool pack`: of a saved forest, of our ONNX form and of skl2onnx's, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forest = IsolationForest(n_estimators=100, random_state=0).fit(trained)
        joblib.dump(forest, folder / "ours.joblib")
        theirs = to_onnx(forest, trained[:1].astype(np.float32), target_opset=OPSETS).SerializeToString()
        (folder / "theirs.onnx").write_bytes(theirs)
        (folder / "ours.onnx").write_bytes(convert(forest).model.SerializeToString())
        columns = ",".join(f"c{number}" for number in range(trained.shape[1]))
        np.savetxt(folder / "data.csv", trained, delimiter=",", header=columns, comments="")
        spent: dict[str, list[float]] = {"ours.joblib": [], "ours.onnx": [], "theirs.onnx": []}
        for _ in range(turns):
            for source, seconds in spent.items():
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                given = [source, "--data", "data.csv", "--accept-weak", "--higher-is", "normal"]
                given += ["--trust-pickle"] if source.endswith(".joblib") else []
                command = [sys.executable, "-m", "edgetool", "pack", *given]
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=as_installed())
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        saved, ours, others = (float(np.median(seconds)) for seconds in spent.values())
        print(
            f"pack of an IsolationForest, processor time: {ours:.2f} / {others:.1f} s = 1/{others / ours:.1f}; with "
            f"its export from what joblib has saved {saved:.1f} s = 1/{others / saved:.1f}"
        )


def main() -> None:
    """Print a line for each estimator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--points", type=int, default=5000, help="rows of the training")
    parser.add_argument("--rows", type=int, default=2000, help="rows that are scored")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--pack", action="store_true", help="the processor time of edgetool pack, and nothing else")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    trained = rng.normal(size=(options.points, 9))
    if options.pack:
        pack_cost(options.turns, trained)
        return
    rows = rng.normal(size=(options.rows, 9)).astype(np.float32)
    for estimator, other, outputs in (
        (IsolationForest(n_estimators=100, random_state=0), None, ("decision_function", "scores")),
        (LocalOutlierFactor(novelty=True), None, ("decision_function", "scores")),
        (KNN(n_neighbors=5), NearestNeighbors(n_neighbors=5, radius=None), ("decision_scores", "distance")),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(trained)
            converted = estimator if other is None else other.fit(trained)
            theirs = to_onnx(converted, trained[:1].astype(np.float32), target_opset=OPSETS).SerializeToString()
            expected = estimator.decision_function(rows.astype(np.float64))
        ours = convert(estimator).model.SerializeToString()
        loads, times, off = [], [], (0.0, 0.0)
        for turn in range(options.turns):
            order = (0, 1) if turn % 2 == 0 else (1, 0)
            found: dict[int, tuple[float, float, float]] = {}
            for which in order:
                session, load_s = session_of((ours, theirs)[which])
                us, answers = microseconds_a_row(session, rows, outputs[which], options.batch)
                found[which] = load_s, us, float(np.abs(answers - expected).max())
            loads.append(found[0][0] / found[1][0])
            times.append(found[0][1] / found[1][1])
            off = found[0][2], found[1][2]
        print(
            f"{type(estimator).__name__}: load {found[0][0] * 1e3:.1f} / {found[1][0] * 1e3:.1f} ms = "
            f"1/{1 / float(np.median(loads)):.0f}; a row {found[0][1]:.1f} / {found[1][1]:.1f} us = "
            f"{float(np.median(times)):.4f} (1/{1 / float(np.median(times)):.1f}); off by {off[0]:.1e} / {off[1]:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
