"""What `edgetool quantize` costs: seconds and memory for a model of 20 kB and one of 100 MB.

`python tools/benchmarks/quantize_cost.py` makes both models, quantizes each several times as a user would, in a process
of its own, and prints a table of medians. The largest resident set of any process is what `/usr/bin/time -v` shows;
both processes together are the sum of their proportional sets (PSS) every 20 ms, which counts a shared page once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from workload import machine

WATCH_S = 0.02


@dataclass(frozen=True)
class Cost:
    """Of one command; bytes of memory."""

    seconds: float
    largest: int
    """Resident set of the largest process."""
    together: int
    """Proportional sets of all processes at one time."""


def chain(width: int, layers: int) -> onnx.ModelProto:
    """Products of square float32 matrices, each with a Relu behind it."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for layer in range(layers):
        values = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        constants.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"m{layer}"], f"product{layer}"))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"x{layer + 1}"], f"relu{layer}"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def measure(command: list[str]) -> Cost:
    """Run a command to its end and watch it and its children.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    largest = together = 0
    while process.poll() is None:
        pids = family(process.pid)
        largest = max([largest, *(kilobytes(pid, "status", "VmHWM:") for pid in pids)])
        together = max(together, sum(kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids))
        time.sleep(WATCH_S)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(time.perf_counter() - started, largest * 1024, together * 1024)


def family(pid: int) -> list[int]:
    """A process and those that it started, and so on; without those that ended meanwhile."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in family(int(child)))]


def kilobytes(pid: int, file: str, key: str) -> int:
    """A line of a file in a process's folder of /proc; 0 when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}; {options.repeats} repeats, medians; memory as a multiple of the model's size in brackets")
    print("| model | precision | seconds | largest process MB | all processes together MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="quantize-cost-") as name:
        for title, model in (("20 kB", chain(50, 2)), ("100 MB", chain(1620, 10))):
            path = Path(name) / "model.onnx"
            onnx.save(model, path)
            size = path.stat().st_size
            for precision in ("float16", "int8"):
                command = [sys.executable, "-m", "edgetool.cli", "quantize", str(path), "--precision", precision]
                costs = [measure(command) for _ in range(options.repeats)]
                print(f"| {title} | {precision} | {_row(costs, size)} |", flush=True)


def _row(costs: list[Cost], size: int) -> str:
    seconds = statistics.median(cost.seconds for cost in costs)
    cells = [f"{seconds:.2f}"]
    for values in ([cost.largest for cost in costs], [cost.together for cost in costs]):
        middle = statistics.median(values)
        # A small model's memory is that of Python and the runtimes.
        times = f" ({middle / size:.2f})" if size > 1 << 20 else ""
        cells.append(f"{middle / 1e6:.0f}{times}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
