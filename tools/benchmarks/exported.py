"""Our forms of scikit-learn's estimators beside those of skl2onnx, in one runtime, in turns.

Of each: seconds to load, microseconds a row in batches, and largest difference from scikit-learn.
Usage: python tools/benchmarks/exported.py [--turns 7] [--points 5000] [--rows 2000] [--batch 512]
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

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
    """Of all rows in batches, and the answers."""
    name = session.get_inputs()[0].name
    started = time.perf_counter()
    parts = [session.run([output], {name: rows[i : i + batch]})[0] for i in range(0, len(rows), batch)]
    return (time.perf_counter() - started) / len(rows) * 1e6, np.concatenate(parts).ravel().astype(np.float64)


def main() -> None:
    """Print a line for each estimator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--points", type=int, default=5000, help="rows of the training")
    parser.add_argument("--rows", type=int, default=2000, help="rows that are scored")
    parser.add_argument("--batch", type=int, default=512)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    trained = rng.normal(size=(options.points, 9))
    rows = rng.normal(size=(options.rows, 9)).astype(np.float32)
    for estimator in (IsolationForest(n_estimators=100, random_state=0), LocalOutlierFactor(novelty=True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(trained)
            theirs = to_onnx(estimator, trained[:1].astype(np.float32), target_opset=OPSETS).SerializeToString()
            expected = estimator.decision_function(rows.astype(np.float64))
        ours = convert(estimator).model.SerializeToString()
        loads, times, off = [], [], (0.0, 0.0)
        for turn in range(options.turns):
            order = (0, 1) if turn % 2 == 0 else (1, 0)
            found: dict[int, tuple[float, float, float]] = {}
            for which in order:
                session, load_s = session_of((ours, theirs)[which])
                output = ("decision_function", "scores")[which]
                us, answers = microseconds_a_row(session, rows, output, options.batch)
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
