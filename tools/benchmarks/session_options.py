"""What the memory arena, memory patterns and spinning threads cost and bring on the CPU provider.

    .venv/bin/python tools/benchmarks/session_options.py

Every setting runs in processes of its own that take turns; medians over the processes. `idle` is the processor time
that ten inferences a second take, as a share of a core, with two threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from detectors import write_bundle

from edge_agent.bundle import open_bundle

_REPEATS = 5
_SETTINGS = {
    "as shipped": {},
    "no arena": {"arena": False},
    "no patterns": {"patterns": False},
    "spinning": {"spinning": True},
}


def _measure(path: str, setting: dict[str, bool]) -> dict[str, float]:
    """The child's side: one session, all figures."""
    import onnxruntime

    bundle = open_bundle(Path(path))
    shape = bundle.golden_readings.shape[1:]
    figures: dict[str, float] = {}
    session = _open(onnxruntime, bundle.model, setting, threads=1)
    for size in (1, 512):
        batch = np.resize(bundle.golden_readings, (size, *shape))
        times_us = []
        for _ in range(60):
            before_ns = time.perf_counter_ns()
            session.run(["score"], {"readings": batch})
            times_us.append((time.perf_counter_ns() - before_ns) / 1e3)
        figures[f"us at {size}"] = statistics.quantiles(times_us[10:], n=4)[0]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    figures["memory MiB"] = pages * 4096 / 2**20
    session = _open(onnxruntime, bundle.model, setting, threads=2)
    batch = bundle.golden_readings[:8]
    before_s, started = time.process_time(), time.monotonic()
    for _ in range(20):
        session.run(["score"], {"readings": batch})
        time.sleep(0.1)
    figures["idle %"] = 100 * (time.process_time() - before_s) / (time.monotonic() - started)
    return figures


def _open(onnxruntime: Any, model: bytes, setting: dict[str, bool], *, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = setting.get("arena", True)
    options.enable_mem_pattern = setting.get("patterns", True)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if setting.get("spinning") else "0")
    return onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, metavar=("BUNDLE", "SETTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_measure(options.child[0], json.loads(options.child[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("autoencoder-8", "autoencoder-wide", "convolution-64x8"):
            path = write_bundle(Path(folder), name)
            found: dict[str, list[dict[str, float]]] = {setting: [] for setting in _SETTINGS}
            for _ in range(_REPEATS):
                for setting, changes in _SETTINGS.items():
                    command = [sys.executable, __file__, "--child", str(path), json.dumps(changes)]
                    done = subprocess.run(command, capture_output=True, check=True)
                    found[setting].append(json.loads(done.stdout))
            for setting, figures in found.items():
                medians = {key: statistics.median(figure[key] for figure in figures) for key in figures[0]}
                cells = "".join(f"{key} {value:>9.1f}   " for key, value in medians.items())
                print(f"{name:<18}{setting:<13}{cells}", flush=True)


if __name__ == "__main__":
    main()
