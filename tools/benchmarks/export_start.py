"""From the start of `edgetool export` to the model's own code, beside the import of PyTorch alone, in turns.

The source is a factory that ends the command as soon as it is called, which is after everything was imported.
Usage: python tools/benchmarks/export_start.py [--turns 9]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from as_installed import as_installed

SAYS = "the factory was called"


def seconds(command: list[str]) -> tuple[float, float, str]:
    """Of the clock and of the processor for one command, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=as_installed())
    spent, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout + done.stderr


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "module.py").write_text(f"def build():\n    raise RuntimeError({SAYS!r})\n")
        source = [f"{folder}/module.py:build", "--trust-code", "--shape", "4", "-o", f"{folder}/m.onnx"]
        ours = [sys.executable, "-m", "edgetool", "export", *source]
        theirs = [sys.executable, "-c", "import torch"]
        ratios: list[tuple[float, float]] = []
        for turn in range(options.turns):
            found = {which: seconds((ours, theirs)[which]) for which in ((0, 1) if turn % 2 == 0 else (1, 0))}
            if SAYS not in found[0][2]:
                sys.exit(f"edgetool export did not come to the factory: {found[0][2]}")
            ratios.append((found[0][0] / found[1][0], found[0][1] / found[1][1]))
    clock, processor = np.median(ratios, axis=0)
    print(
        f"edgetool export to the factory / import torch: {clock:.2f} by the clock, {processor:.2f} of the processor's "
        f"time (last turn {found[0][0]:.2f} / {found[1][0]:.2f} s)"
    )


if __name__ == "__main__":
    main()
