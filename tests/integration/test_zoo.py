"""Every model of the zoos ends in a right model or in the original with a reason: our own zoo, and ../shared/zoo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from zoo import ZOO, build
from zoo_parts import read_npz, write_npz

from edge_agent.errors import ConversionError
from edgetool.choices import Precision, Target
from edgetool.commands.quantize import QuantizeReport, Verdict, quantize
from edgetool.graph.onnx_file import load_model
from edgetool.graph.walks import graphs_of, nodes_of
from edgetool.precision.context import Converter
from edgetool.verify.arrays import Sample
from edgetool.verify.drift import compare_answers
from edgetool.verify.workbench import Workbench

SHARED = Path(__file__).parents[3] / "shared" / "zoo"
NAMES = [*ZOO, *(f"shared/{path.stem}" for path in sorted(SHARED.glob("*.onnx")))]
RUNS_REPAIRED_ONLY = {"doubled_names"}
WORTH_COUNTING_BYTES = 1024
LARGE_WEIGHTS_BYTES = 20_000


@dataclass(frozen=True)
class Done:
    """One quantization."""

    model: Path
    output: Path
    samples: list[Sample]
    report: QuantizeReport


class Quantizer:
    """Quantizes each model once for each target and precision, and remembers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: dict[tuple[str, Precision, Target], Done] = {}

    def __call__(self, name: str, precision: Precision, target: Target) -> Done:
        key = (name, precision, target)
        if key not in self._done:
            model, data = self._files(name)
            output = self._folder / f"{model.stem}.{precision}.{target}.onnx"
            report = quantize(model, output, precision=precision, target=target, data=data)
            self._done[key] = Done(model, output, read_npz(data), report)
        return self._done[key]

    def _files(self, name: str) -> tuple[Path, Path]:
        if name.startswith("shared/"):
            model = SHARED / f"{name.removeprefix('shared/')}.onnx"
            return model, model.with_suffix(".npz")
        model, data = self._folder / f"{name}.onnx", self._folder / f"{name}.npz"
        if not model.exists():
            made = build(name)
            onnx.save(made.model, model)
            write_npz(data, made.samples)
        return model, data


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantizer:
    return Quantizer(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with Workbench(tmp_path_factory.mktemp("bench")) as child:
        yield child


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("precision", "target"),
    [(Precision.FLOAT16, Target.CPU), (Precision.FLOAT16, Target.GPU), (Precision.INT8, Target.CPU)],
    ids=["float16-cpu", "float16-gpu", "int8-cpu"],
)
def test_the_result_is_right_or_kept_with_a_reason(
    name: str, precision: Precision, target: Target, quantized: Quantizer, bench: Workbench
) -> None:
    """Judged here once more, by a run of both files that has nothing to do with the tool's own verification."""
    done = quantized(name, precision, target)
    assert done.output.exists()
    assert done.report.reason
    if done.report.verdict is Verdict.KEPT:
        return
    if name in RUNS_REPAIRED_ONLY:
        return
    bench.use_samples(done.samples)
    relative, absolute = (0.1, 1e-2) if precision is Precision.INT8 else (0.02, 1e-3)
    for drift in compare_answers(bench.run(done.model), bench.run(done.output)):
        # The floor of compare_answers is the stricter one.
        assert drift.drift <= (relative + absolute if drift.is_float else 0.02), drift


@pytest.mark.parametrize("name", NAMES)
def test_no_result_for_cpu_is_slower_or_larger(name: str, quantized: Quantizer) -> None:
    """A rung that takes more than 1.1 of the original's latency is not taken."""
    for precision in (Precision.FLOAT16, Precision.INT8):
        report = quantized(name, precision, Target.CPU).report
        assert report.latency_ratio is None or report.latency_ratio <= 1.1
        assert report.size_after <= report.size_before


def test_models_for_a_gpu_compute_in_float16(quantized: Quantizer, bench: Workbench) -> None:
    """On 85 % of models with weights, 90 % of the weight bytes feed float16 operators, right in onnx.reference."""
    counted, converted, checked, wrong = 0, 0, 0, []
    for name in NAMES:
        done = quantized(name, Precision.FLOAT16, Target.GPU)
        if float_weight_bytes(done.model) < WORTH_COUNTING_BYTES:
            continue
        counted += 1
        if half_share(done.output) < 0.9:
            continue
        converted += 1
        problem = problem_in_float16(done, bench)
        checked += problem != "not run"
        if problem not in ("", "not run"):
            wrong.append(f"{name}: {problem}")
    assert not wrong
    assert converted >= 0.85 * counted, f"{converted} of {counted}"
    assert checked >= 0.7 * converted, f"onnx.reference ran {checked} of {converted}"


def test_both_float16_conversions_are_taken(quantized: Quantizer) -> None:
    """onnxconverter-common's on at least half of the models that compute in float16, our own on the others."""
    found = [quantized(name, Precision.FLOAT16, Target.GPU).report.converter for name in NAMES]
    taken = [converter for converter in found if converter is not None]
    assert set(taken) == set(Converter)
    assert taken.count(Converter.LIBRARY) >= 0.5 * len(taken)


def test_files_become_as_small_as_promised(quantized: Quantizer) -> None:
    """Over 20 kB of weights: float16 at most 0.62 of the size, int8 at most 0.40 on average."""
    ratios: dict[Precision, dict[str, float]] = {Precision.FLOAT16: {}, Precision.INT8: {}}
    for name in NAMES:
        for precision, found in ratios.items():
            done = quantized(name, precision, Target.CPU)
            trees = any(n.op_type.startswith("TreeEnsemble") for n in nodes_of(load_model(done.model).graph))
            if float_weight_bytes(done.model) > LARGE_WEIGHTS_BYTES and not trees:
                found[name] = done.report.size_after / done.report.size_before
                if precision is Precision.FLOAT16:
                    assert found[name] <= 0.62, done.report.describe()
    assert float(np.mean([*ratios[Precision.INT8].values()])) <= 0.40


def test_int8_is_computed_where_that_is_faster(quantized: Quantizer) -> None:
    """Found from measurements: the wide network computes in int8, the small one only stores it."""
    wide = quantized("wide_mlp", Precision.INT8, Target.CPU).report
    assert wide.verdict in (Verdict.CONVERTED, Verdict.MIXED)
    assert wide.latency_ratio is not None
    assert wide.latency_ratio <= 0.6
    assert quantized("cancellation", Precision.INT8, Target.CPU).report.verdict is Verdict.STORED


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/zoo is not here")
def test_the_wide_network_of_the_shared_zoo_is_much_faster_in_int8(quantized: Quantizer) -> None:
    """At most 0.6 of float32's latency."""
    report = quantized("shared/mlp_1024_dyn", Precision.INT8, Target.CPU).report
    assert report.latency_ratio is not None
    assert report.latency_ratio <= 0.6


def float_weight_bytes(model: Path) -> int:
    loaded = load_model(model)
    size = sum(4 * int(np.prod(t.dims)) for g in graphs_of(loaded.graph) for t in g.initializer if t.data_type == 1)
    for node in nodes_of(loaded.graph):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and attribute.t.data_type == 1:
                size += 4 * int(np.prod(attribute.t.dims))
    return size


def half_share(model: Path) -> float:
    """Share of weight values that feed a float16 operator other than a Cast."""
    loaded = load_model(model)
    used = {name for node in nodes_of(loaded.graph) if node.op_type != "Cast" for name in node.input}
    half = other = 0
    for graph in graphs_of(loaded.graph):
        for tensor in graph.initializer:
            count = int(np.prod(tensor.dims))
            if tensor.data_type == TensorProto.FLOAT16 and tensor.name in used:
                half += count
            elif tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
                other += count
    return half / max(half + other, 1)


def problem_in_float16(done: Done, bench: Workbench) -> str:
    """What is wrong in the arithmetic of onnx.reference; `not run` when that cannot run the original rightly."""
    bench.use_samples(done.samples[:1])
    expected = bench.run(done.model) if done.model.stem not in RUNS_REPAIRED_ONLY else []
    if not expected or done.model.stat().st_size > 4 << 20:
        return "not run"
    try:
        original = bench.run_reference(done.model, count=1, timeout_s=20)
        found = bench.run_reference(done.output, count=1, timeout_s=20)
    except ConversionError:
        return "not run"
    if max(drift.drift for drift in compare_answers(expected, original)) > 0.02:
        return "not run"
    worst = max(compare_answers(expected, found), key=lambda drift: drift.drift)
    return "" if worst.drift <= 0.03 else f"{worst.output} drifts by {worst.drift:.3g}"
