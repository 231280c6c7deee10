"""Compares `edgetool quantize` with the converters that everybody uses, on the same models, each in a child process.

    python tools/benchmarks/converters.py [--zoo FOLDER] [--json FILE] [--results FILE]

Every conversion runs in a process of its own with a time limit, because some end with a signal. Every result is
judged in the same way, by runs that have nothing to do with the converter: right means that it loads, runs, is finite,
that every float output is within 2 % of its peak (int8: 10 %), and that at most 2 % of other values changed. Nothing
here says what should come out; a converter that refuses counts as `failed`, one that gives the original back as `kept`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))
from edge_agent.errors import EdgeError
from edgetool.verify.arrays import Sample, load_samples, save_samples
from edgetool.verify.drift import compare_answers
from edgetool.verify.workbench import Workbench

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180.0
FLOAT16 = ("onnxconverter_common", "auto_mixed_precision", "ort_float16", "edgetool_cpu", "edgetool_gpu")
INT8 = ("quantize_dynamic", "quantize_static", "edgetool_int8")
LIMITS = {**dict.fromkeys(FLOAT16, 0.02), **dict.fromkeys(INT8, 0.1)}
CHANGED_LIMIT = 0.02


@dataclass(frozen=True)
class Result:
    """One converter on one model."""

    model: str
    converter: str
    outcome: str
    """right, kept, wrong, failed, crashed or does not run"""
    detail: str
    size_ratio: float | None
    latency_ratio: float | None


def main() -> int:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--zoo", type=Path, default=ROOT.parent / "shared" / "zoo", help="folder of NAME.onnx, NAME.npz"
    )
    parser.add_argument("--json", type=Path, help="write every single result")
    parser.add_argument("--results", type=Path, help="what --json wrote, instead of a run")
    parser.add_argument("--convert", nargs=4, metavar=("CONVERTER", "MODEL", "DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        convert(*options.convert)
        return 0
    results = (
        [Result(**each) for each in json.loads(options.results.read_text(encoding="utf-8"))]
        if options.results
        else run(options.zoo)
    )
    print(tabulate(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    return 0


def run(zoo: Path) -> list[Result]:
    """Every converter on every model."""
    results: list[Result] = []
    # Ctrl-C ends with the table of the models that are through.
    with tempfile.TemporaryDirectory(prefix="converters-") as name, contextlib.suppress(KeyboardInterrupt):
        for model, data in collect(zoo.resolve(), Path(name)):
            latest = [judge(converter, model, data, Path(name)) for converter in (*FLOAT16, *INT8)]
            results += latest
            print(f"{model.stem}: " + " ".join(f"{r.converter}={r.outcome}" for r in latest), flush=True)
    return results


def collect(zoo: Path, folder: Path) -> list[tuple[Path, Path]]:
    """The models of a folder and, from the tests, our own."""
    found = [(path, path.with_suffix(".npz")) for path in sorted(zoo.glob("*.onnx"))]
    sys.path.insert(0, str(ROOT / "tests"))
    from zoo import ZOO, build

    for name in ZOO:
        made = build(name)
        path = folder / f"own_{name}.onnx"
        onnx.save(made.model, path)
        save_samples(path.with_suffix(".npz"), made.samples)
        found.append((path, path.with_suffix(".npz")))
    return found


def judge(converter: str, model: Path, data: Path, folder: Path) -> Result:
    """Convert in a child process, and look at what came out."""
    output = folder / "result.onnx"
    output.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--convert", converter, str(model), str(data), str(output)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        return Result(model.stem, converter, "failed", f"gave no answer in {TIMEOUT_S:.0f} s", None, None)
    if done.returncode or not output.exists():
        outcome = "crashed" if done.returncode < 0 else "failed"
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Result(model.stem, converter, outcome, lines[-1][:200], None, None)
    size_ratio = output.stat().st_size / model.stat().st_size
    if output.read_bytes() == model.read_bytes() or "verdict=kept" in done.stdout:
        return Result(model.stem, converter, "kept", "", size_ratio, 1.0)
    return compare(converter, model, output, load_samples(data), size_ratio)


def compare(converter: str, model: Path, output: Path, samples: list[Sample], size_ratio: float) -> Result:
    """Run original and result on the CPU provider, and time them in turns."""
    with tempfile.TemporaryDirectory(prefix="converters-") as name, Workbench(Path(name), samples) as bench:
        try:
            expected = bench.run(model)
        except EdgeError as exc:
            return Result(model.stem, converter, "kept", f"the original does not run: {exc}", size_ratio, None)
        try:
            drifts = compare_answers(expected, bench.run(output))
            ratio = bench.time([model, output], budget_s=0.2).ratio(1)
        except EdgeError as exc:
            crashed = "crashed" in str(exc)
            return Result(
                model.stem, converter, "crashed" if crashed else "does not run", str(exc)[:200], size_ratio, None
            )
    for drift in drifts:
        if not drift.drift <= (LIMITS[converter] if drift.is_float else CHANGED_LIMIT):
            text = f"{drift.output} drifts by {drift.drift:.3g}"
            return Result(model.stem, converter, "wrong", text, size_ratio, ratio)
    return Result(model.stem, converter, "right", "", size_ratio, ratio)


def tabulate(results: list[Result]) -> str:
    """The counts as a Markdown table, with what they were made on."""
    packages = ("onnx", "onnxruntime", "onnxruntime-openvino", "onnxconverter-common", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages if installed(name))
    models = len({result.model for result in results})
    where = f"{platform.machine()} {platform.system()}, Python {platform.python_version()}, {versions}"
    lines = [
        f"`python tools/benchmarks/converters.py` on {models} models, {datetime.now(UTC):%Y-%m-%d}, {where}.",
        "",
        "| converter | right | kept | wrong | does not run | failed | crashed | mean size | median latency | worst |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for converter in (*FLOAT16, *INT8):
        mine = [result for result in results if result.converter == converter]
        counts = [
            sum(result.outcome == word for result in mine)
            for word in ("right", "kept", "wrong", "does not run", "failed", "crashed")
        ]
        right = [result for result in mine if result.outcome == "right"]
        sizes = [result.size_ratio for result in right if result.size_ratio is not None]
        times = [result.latency_ratio for result in right if result.latency_ratio is not None]
        measured = [f"{value:.2f}" for value in (np.mean(sizes), np.median(times), max(times))] if right else ["-"] * 3
        cells = [*(str(count) for count in counts), *measured]
        lines.append(f"| {converter} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def installed(package: str) -> bool:
    """Whether a package is here."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def convert(converter: str, model: str, data: str, output: str) -> None:
    """The child's side: one conversion with the converter's own defaults, inputs and outputs kept in float32."""
    if converter.startswith("edgetool"):
        convert_with_edgetool(converter, Path(model), Path(data), Path(output))
    elif converter in FLOAT16:
        loaded = onnx.load(model)
        onnx.save(FLOAT16_CONVERTERS[converter](loaded, load_samples(Path(data))), output)
    elif converter == "quantize_dynamic":
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(model, output)
    else:
        convert_static(model, Path(data), output)


def convert_with_edgetool(converter: str, model: Path, data: Path, output: Path) -> None:
    """Ours, by the function that the command calls."""
    from edgetool.choices import Precision, Target
    from edgetool.commands.quantize import quantize

    precision = Precision.INT8 if converter == "edgetool_int8" else Precision.FLOAT16
    target = Target.GPU if converter == "edgetool_gpu" else Target.CPU
    report = quantize(model, output, precision=precision, target=target, data=data)
    print(f"verdict={report.verdict.value}")


def with_common(model: Any, _samples: list[Sample]) -> Any:
    """onnxconverter-common's converter."""
    from onnxconverter_common import float16

    return float16.convert_float_to_float16(model, keep_io_types=True)


def with_mixed_precision(model: Any, samples: list[Sample]) -> Any:
    """onnxconverter-common's search, with the tolerance that results are judged by."""
    from onnxconverter_common import auto_mixed_precision

    return auto_mixed_precision.auto_convert_mixed_precision(
        model, samples[0], rtol=0.02, atol=0.001, keep_io_types=True
    )


def with_runtime(model: Any, _samples: list[Sample]) -> Any:
    """ONNX Runtime's converter for transformers, which takes any model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def convert_static(model: str, data: Path, output: str) -> None:
    """ONNX Runtime's static quantizer on the model's samples."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the samples one by one."""

        def __init__(self) -> None:
            self._samples = iter(load_samples(data))

        def get_next(self) -> Sample | None:
            """The next sample."""
            return next(self._samples, None)

    quantize_static(model, output, Reader())


FLOAT16_CONVERTERS = {
    "onnxconverter_common": with_common,
    "auto_mixed_precision": with_mixed_precision,
    "ort_float16": with_runtime,
}

if __name__ == "__main__":
    sys.exit(main())
