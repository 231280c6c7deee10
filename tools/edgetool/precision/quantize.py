"""`edgetool quantize`: a smaller model that was compared with its original, or the reason why there is none."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_agent.errors import AccuracyError, ConversionError, UsageError
from edgetool.choices import Precision
from edgetool.comparison import OutputDrift, compare_answers
from edgetool.onnx_file import graphs_of, load_model, write_atomically
from edgetool.precision.storage import StorageReport, store_as_float16
from edgetool.runner import run_model
from edgetool.samples import SampleSet, generate_samples, read_samples

__all__ = ["DEFAULT_MAX_DRIFT", "QuantizeReport", "Verdict", "quantize"]

DEFAULT_MAX_DRIFT = 0.02
"""Largest difference of a float output, as a share of its peak; as much for other outputs, as a share of values."""


class Verdict(StrEnum):
    """How a quantization ended."""

    STORED = "stored"
    """Weights are stored small and computed in float32."""
    KEPT = "kept"
    """The model is unchanged, because nothing in it would become smaller."""


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What came of `quantize`."""

    model: Path
    output: Path
    precision: Precision
    verdict: Verdict
    reason: str
    size_before: int
    """Bytes, external data included."""
    size_after: int
    stored_tensors: int
    kept_tensors: dict[str, str]
    """Large float32 tensors that stay float32, with the reason."""
    data: str
    synthetic: bool
    """The comparison ran on made-up inputs."""
    max_drift: float
    outputs: list[OutputDrift]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "model": str(self.model),
            "output": str(self.output),
            "precision": self.precision.value,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "size_before_bytes": self.size_before,
            "size_after_bytes": self.size_after,
            "size_ratio": round(self.size_after / self.size_before, 4),
            "stored_tensors": self.stored_tensors,
            "kept_tensors": self.kept_tensors,
            "data": self.data,
            "synthetic": self.synthetic,
            "max_drift": self.max_drift,
            "outputs": [output.describe() for output in self.outputs],
            "seconds": round(self.seconds, 3),
        }


def quantize(
    model: Path,
    output: Path | None = None,
    *,
    precision: Precision = Precision.FLOAT16,
    data: Path | None = None,
    max_drift: float = DEFAULT_MAX_DRIFT,
    input_range: tuple[float, float] | None = None,
) -> QuantizeReport:
    """Make a model smaller, compare it with the original, and write it only when it is right.

    Args:
        model: the ONNX file; it is never changed.
        output: where to write; beside the model with `.float16.onnx` when not given.
        precision: what to store weights as.
        data: samples to compare on (docs/data.md); made up when not given.
        max_drift: largest drift of any output, as `edgetool.comparison` measures it.
        input_range: lowest and highest value of made-up inputs.

    Raises:
        ConversionError: the model cannot be read, or it or its smaller form does not run.
        AccuracyError: an output drifts further than `max_drift`.
        DataError: the data do not fit the model.
        UsageError: the output would overwrite the model.
    """
    started = time.monotonic()
    output = output or model.with_name(f"{model.name.removesuffix('.onnx')}.{precision.value}.onnx")
    if output.resolve() == model.resolve():
        raise UsageError(f"{output}: is the model itself, which is never overwritten; give another -o")
    original = load_model(model)
    before = original.SerializeToString()
    samples = generate_samples(original, input_range) if data is None else read_samples(original, data)
    try:
        expected = run_model(before, samples.samples)
    except ConversionError as exc:
        raise ConversionError(f"{model}: the model itself does not run: {exc}") from exc
    storage = store_as_float16(original)
    after = original.SerializeToString() if storage.stored else before
    drifts: list[OutputDrift] = []
    if storage.stored:
        drifts = _verified_drifts(model, after, samples, expected, max_drift)
    smaller = len(after) < len(before)
    write_atomically(output, after if smaller else before)
    return QuantizeReport(
        model=model,
        output=output,
        precision=precision,
        verdict=Verdict.STORED if smaller else Verdict.KEPT,
        reason=_reason(storage, before, after, model),
        size_before=len(before),
        size_after=len(after) if smaller else len(before),
        stored_tensors=len(storage.stored) if smaller else 0,
        kept_tensors=storage.kept,
        data=samples.origin,
        synthetic=samples.synthetic,
        max_drift=max_drift,
        outputs=drifts,
        seconds=time.monotonic() - started,
    )


def _verified_drifts(
    model: Path, converted: bytes, samples: SampleSet, expected: list[Any], max_drift: float
) -> list[OutputDrift]:
    """Every output's drift, all within the limit."""
    try:
        found = run_model(converted, samples.samples)
    except ConversionError as exc:
        raise ConversionError(f"{model}: the float16 form does not run, nothing was written: {exc}") from exc
    drifts = compare_answers(expected, found)
    for drift in drifts:
        if not drift.drift <= max_drift:
            detail = f" ({drift.note})" if drift.note else ""
            raise AccuracyError(
                f"{model}: output {drift.output!r} drifts by {drift.drift:.3g} at sample {drift.worst_sample}{detail}, "
                f"at most {max_drift:g} is allowed; nothing was written. Allow more with --max-drift, or keep float32"
            )
    return drifts


def _reason(storage: StorageReport, before: bytes, after: bytes, model: Path) -> str:
    if len(after) < len(before):
        return f"{len(storage.stored)} weight tensors are stored as float16 and computed in float32"
    if storage.stored:
        return "float16 would not make the file smaller"
    if storage.kept:
        name, reason = next(iter(storage.kept.items()))
        return f"no weight can be stored as float16; {name}: {reason}"
    loaded = load_model(model)
    trees = [n.op_type for g in graphs_of(loaded.graph) for n in g.node if n.op_type.startswith("TreeEnsemble")]
    if trees:
        return f"a tree ensemble ({trees[0]}) has no float16 form"
    return "the model has no float32 weights large enough to gain from float16"
