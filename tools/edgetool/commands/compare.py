"""`edgetool compare`: two models side by side on the same samples, outputs and, when asked, every tensor both have."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edge_agent.errors import ConversionError
from edgetool.data import DataSource, as_files
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.graph.custom_ops import read_custom_ops
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.maps import unzip_maps
from edgetool.graph.versions import lower_versions
from edgetool.graph.weights import WeightStore, read_light
from edgetool.paths import StrPath
from edgetool.verify.arrays import Sample
from edgetool.verify.drift import OutputDrift, compare_answers
from edgetool.verify.finite import Unanswered, unanswered
from edgetool.verify.fitting import explain, samples_for
from edgetool.verify.scores import ScoreAgreement, agree_on_scores
from edgetool.verify.workbench import Workbench

__all__ = ["CompareReport", "LayerDrift", "compare", "match_tensors"]

_LAYER_SAMPLES = 4
_DEFAULT_TOLERANCE = 0.02
_ADDED = re.compile(
    r"(_half|_float16|_fp16|_float|_int8|_quantized|_near|_wide|_QuantizeLinear_Output|_DequantizeLinear_Output|"
    r"_output_cast|_cast|_cast_to_\w+|_output_quantized|_raw)(_?\d+)?$"
)
"""What converters, ours and others', put behind the name of a tensor."""
_MOST_ADDED, _LONGEST_ADDED = 8, 64


@dataclass(frozen=True, slots=True)
class LayerDrift:
    """One tensor that both models have."""

    tensor: str
    other: str
    """Its name in the second model."""
    node: str
    operator: str
    drift: float
    beyond: bool
    """True if the drift is beyond the tolerance."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "tensor": self.tensor,
            "other": self.other,
            "node": self.node,
            "operator": self.operator,
            "drift": self.drift,
            "beyond": self.beyond,
        }


@dataclass(frozen=True, slots=True)
class CompareReport:
    """What came of `compare`."""

    first: Path
    second: Path
    data: str
    synthetic: bool
    tolerance: float
    outputs: list[OutputDrift]
    scores: list[ScoreAgreement]
    unanswered: list[Unanswered] = field(default_factory=list)
    """Outputs of the first model that are not finite for some rows."""
    layers: list[LayerDrift] = field(default_factory=list)
    """Tensors in the graph order of the first model."""
    unmatched: int = 0
    """Tensors of the first model that the second does not have."""

    @property
    def first_beyond(self) -> LayerDrift | None:
        """The first tensor, in graph order, that leaves the tolerance."""
        return next((layer for layer in self.layers if layer.beyond), None)

    @property
    def agree(self) -> bool:
        """True if every output is within the tolerance, and there was something to compare in it."""
        empty = any(each.rows == each.of for each in self.unanswered)
        return not empty and all(output.drift <= self.tolerance for output in self.outputs)

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        first = self.first_beyond
        return {
            "first": str(self.first),
            "second": str(self.second),
            "agree": self.agree,
            "tolerance": self.tolerance,
            "data": self.data,
            "synthetic": self.synthetic,
            "outputs": [output.describe() for output in self.outputs],
            "not_finite": [each.describe() for each in self.unanswered],
            "scores": [score.describe() for score in self.scores],
            "first_beyond": None if first is None else first.describe(),
            "layers": [layer.describe() for layer in self.layers],
            "unmatched": self.unmatched,
        }


def compare(
    first: StrPath,
    second: StrPath,
    *,
    data: DataSource | None = None,
    layers: bool = False,
    tolerance: float = _DEFAULT_TOLERANCE,
    threshold: float | None = None,
    provider: str = "cpu",
    custom_ops: StrPath | Sequence[StrPath] = (),
    timeout_s: float = DEFAULT_S,
) -> CompareReport:
    """Run two models on the same samples and hold their answers against each other.

    Args:
        first: the model that is right.
        second: the other one.
        data: samples; made up for the first model's inputs when not given.
        layers: compare the tensors inside too.
        tolerance: drift that counts as different, as a share of a tensor's peak.
        threshold: of a score; verdicts that differ are counted.
        provider: where both run; layers are compared on the CPU.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with both.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: a model cannot be read or does not run.
        DataError: the data do not fit the first model.
        OutOfTimeError: a model takes longer than that, or never ends.
        UsageError: a library is none, or is not needed.
    """
    first, second = Path(first), Path(second)
    deadline = Deadline(f"{first} and {second.name}", timeout_s)
    ops = read_custom_ops(custom_ops)
    with (
        tempfile.TemporaryDirectory(prefix="edgetool-") as name,
        Workbench(Path(name), deadline=deadline, libraries=ops.here) as bench,
    ):
        store = WeightStore(Path(name))
        models = [read_light(path, store)[0] for path in (first, second)]
        ops.check(*zip((first, second), models, strict=True))
        for model in models:
            # A version number says nothing of what a model computes, and keeps a runtime from loading it.
            lower_versions(model)
            # A map for each row would be compared one by one; its values are all in the array that it is made of.
            unzip_maps(model)
        copies = [store.save(model, "model.onnx") for model in models]
        samples = samples_for(models[0], copies[0], bench, as_files(data))
        answers: list[list[Sample]] = []
        for path, model, copy in zip((first, second), models, copies, strict=True):
            try:
                answers.append(bench.run(copy, provider))
            except ConversionError as exc:
                raise ConversionError(f"{path}: does not run: {explain(str(exc), model)}") from exc
        inputs = bench.samples
        found, unmatched = _layers(bench, store, models, tolerance) if layers else ([], 0)
    return CompareReport(
        first=first,
        second=second,
        data=samples.origin,
        synthetic=samples.synthetic,
        tolerance=tolerance,
        outputs=compare_answers(answers[0], answers[1]),
        scores=agree_on_scores(answers[0], answers[1], threshold, inputs),
        unanswered=unanswered(answers[0], inputs),
        layers=found,
        unmatched=unmatched,
    )


def match_tensors(first: onnx.ModelProto, second: onnx.ModelProto) -> list[tuple[str, str]]:
    """Tensors of the main graphs that are the same by name, in the first one's graph order.

    What converters put behind a name is looked through, so that `x` finds `x_half`; of several the last wins, because
    a value is rounded first and used after.
    """
    theirs: dict[str, str] = {}
    for node in second.graph.node:
        for name in node.output:
            if name:
                theirs[_stem(name)] = name
    exact = {name for node in second.graph.node for name in node.output}
    pairs: list[tuple[str, str]] = []
    for node in first.graph.node:
        for name in node.output:
            other = name if name in exact else theirs.get(_stem(name))
            if name and other:
                pairs.append((name, other))
    return pairs


def _layers(
    bench: Workbench, store: WeightStore, models: list[onnx.ModelProto], tolerance: float
) -> tuple[list[LayerDrift], int]:
    paths = [store.save(with_all_outputs(model), "tensors.onnx") for model in models]
    pairs = match_tensors(models[0], models[1])
    drifts = bench.drifts(paths[0], paths[1], pairs, count=_LAYER_SAMPLES)
    makers = {name: node for node in models[0].graph.node for name in node.output}
    found = [
        LayerDrift(
            tensor=name,
            other=other,
            node=makers[name].name,
            operator=makers[name].op_type,
            drift=drifts[name],
            beyond=not drifts[name] <= tolerance,
        )
        for name, other in pairs
    ]
    made = sum(1 for node in models[0].graph.node for name in node.output if name)
    return found, made - len(found)


def _stem(name: str) -> str:
    for _ in range(_MOST_ADDED):
        # Only the end is searched, because a name may be as long as a file.
        found = _ADDED.search(name, max(0, len(name) - _LONGEST_ADDED))
        if found is None or found.start() == 0:
            break
        name = name[: found.start()]
    return name
