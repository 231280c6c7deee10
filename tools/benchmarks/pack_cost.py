"""CPU time of `edgetool pack` by two builds of this project, in turns, on every model of a folder.

Every model gets 2,000 made-up rows of as many channels as its input has; a refusal counts with the time it took.
Usage: python tools/benchmarks/pack_cost.py OTHER_CHECKOUT --models FOLDER [--turns 1]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from as_installed import as_installed

ROOT = Path(__file__).resolve().parents[2]


def channels_of(path: Path) -> int:
    """Channels that the first float input may take: its last axis, or one."""
    model = onnx.load(path, load_external_data=False)
    defaults = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in defaults and len(dims) > 1:
            return int(dims[-1].dim_value) or 4
    return 4


def cpu_seconds(checkout: Path, model: Path, data: Path, folder: Path) -> tuple[float, int]:
    """CPU time of one `pack` with all its children, and its exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**as_installed(), "PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'tools'}"}
    command = [
        sys.executable,
        "-m",
        "edgetool",
        "pack",
        str(model),
        "--data",
        str(data),
        "-o",
        str(folder / "m-1.0.0.edge"),
    ]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode


def main() -> None:
    """Print the ratio of each model, and the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of this project")
    parser.add_argument("--models", type=Path, required=True, help="a folder of ONNX files")
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    builds = (ROOT, options.other.resolve())
    ratios: list[float] = []
    totals = np.zeros(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, model in enumerate(sorted(options.models.glob("*.onnx"))):
            channels = channels_of(model)
            rows = np.random.default_rng(0).normal(size=(2000, channels)).astype(np.float32)
            np.savez(folder / "normal.npz", readings=rows)
            each: list[float] = []
            for turn in range(options.turns):
                order = (0, 1) if (number + turn) % 2 == 0 else (1, 0)
                found = {b: cpu_seconds(builds[b], model.resolve(), folder / "normal.npz", folder) for b in order}
                each.append(found[0][0] / found[1][0])
                totals += [found[0][0], found[1][0]]
            ratios.append(float(np.median(each)))
            codes = f"exit {found[0][1]} and {found[1][1]}"
            print(
                f"{model.name:40} {ratios[-1]:.2f}  ({found[0][0]:.2f} s and {found[1][0]:.2f} s, {codes})", flush=True
            )
    print(f"{len(ratios)} models: median {np.median(ratios):.2f}, all together {totals[0] / totals[1]:.2f}")


if __name__ == "__main__":
    main()
