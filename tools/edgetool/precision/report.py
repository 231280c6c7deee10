"""What came of a quantization, as values and as one JSON document."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgetool.choices import Io, Precision, Target
from edgetool.precision.context import Converter, Rung
from edgetool.precision.float16.ranges import RangeProblem
from edgetool.verify.drift import OutputDrift
from edgetool.verify.finite import Unanswered
from edgetool.verify.probes import Ventured
from edgetool.verify.saturated import Saturated
from edgetool.verify.scores import MAX_SCORE_DEVIATION, ScoreAgreement
from edgetool.verify.verifier import ProviderCheck

__all__ = ["Choice", "Pruned", "QuantizeReport", "Verdict"]


class Verdict(StrEnum):
    """How a quantization ended."""

    CONVERTED = "converted"
    """The model computes in the smaller type."""
    MIXED = "mixed"
    """The model computes in the smaller type, except for nodes that would be wrong in that type."""
    STORED = "stored"
    """Weights are stored small and computed in float32."""
    KEPT = "kept"
    """The model computes as before; nothing in it would become smaller, or not rightly."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of what `auto` compared."""

    precision: str
    verdict: str
    size_bytes: int
    latency_s: float | None
    latency_ratio: float | None
    drift: float
    chosen: bool

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "precision": self.precision,
            "verdict": self.verdict,
            "size_bytes": self.size_bytes,
            "latency_s": self.latency_s,
            "latency_ratio": self.latency_ratio,
            "drift": self.drift,
            "chosen": self.chosen,
        }


@dataclass(frozen=True, slots=True)
class Pruned:
    """What setting small weights to zero did."""

    share: float
    zeroed: int
    of: int
    compressed_before_bytes: int
    compressed_after_bytes: int

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "share": self.share,
            "zeroed": self.zeroed,
            "of": self.of,
            "compressed_before_bytes": self.compressed_before_bytes,
            "compressed_after_bytes": self.compressed_after_bytes,
            "saves": "compressed size only, neither speed nor the size of the plain file",
        }


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What came of `quantize`."""

    model: Path
    output: Path
    precision: Precision
    target: Target
    io: Io
    verdict: Verdict
    reason: str
    weights: str
    """What weights are stored as: float32, float16 or int8."""
    size_before: int
    """Bytes of the original, external data included."""
    size_after: int
    metadata_bytes: int
    """Bytes that the training framework left behind and that are stripped."""
    rungs: list[Rung]
    """Steps of the ladder that were not taken."""
    range_problems: list[RangeProblem]
    repairs: list[str]
    data: str
    synthetic: bool
    """The comparison, and a calibration, ran on made-up inputs."""
    max_drift: float
    outputs: list[OutputDrift]
    scores: list[ScoreAgreement]
    providers: list[ProviderCheck]
    unanswered: list[Unanswered] = field(default_factory=list)
    """Outputs of the original that are not finite for some rows."""
    saturated: list[Saturated] = field(default_factory=list)
    """Outputs of the original that are the same for all rows of the data."""
    ventured: list[Ventured] = field(default_factory=list)
    """Of what can be a detector's score: how far it moved far from normal, and for the rows beside one."""
    refused: dict[str, float] = field(default_factory=dict)
    """By options of `pack` that the model's answers on the data allow, how far off this form's scores are, where `pack
    --reference` refuses them."""
    calibrated_on: str = ""
    """Where the fixed scales of int8 are from; empty where there are none."""
    pruned: Pruned | None = None
    stored_tensors: int = 0
    kept_tensors: dict[str, str] = field(default_factory=dict)
    """Large float32 tensors that stay float32, with the reason."""
    kept_nodes: dict[str, str] = field(default_factory=dict)
    """Nodes that stay float32 and would not have to, with the reason."""
    converter: Converter | None = None
    """What made the graph compute in float16; None where it does not."""
    small_weight_bytes: int = 0
    """Bytes of float32 weights that feed float16 or int8 operators now."""
    arithmetic: dict[str, Any] = field(default_factory=dict)
    latency_ratio: float | None = None
    """Latency as a share of the original's; None when it was not measured."""
    latency_s: float | None = None
    choices: list[Choice] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def refusal(self) -> str:
        """What `pack` will say of this form, for a person; empty where nothing is known."""
        told = ", ".join(f"{options} (by {deviation:.2g})" for options, deviation in self.refused.items())
        return told and (
            f"this form is further off than the {MAX_SCORE_DEVIATION:g} that pack --reference allows, with {told}; "
            f"for these {'' if self.weights == 'float16' else 'try --precision float16, or '}pack the float32 model"
        )

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "model": str(self.model),
            "output": str(self.output),
            "precision": self.precision.value,
            "target": self.target.value,
            "io": self.io.value,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "weights": self.weights,
            "size_before_bytes": self.size_before,
            "size_after_bytes": self.size_after,
            "size_ratio": round(self.size_after / max(self.size_before, 1), 4),
            "metadata_stripped_bytes": self.metadata_bytes,
            "stored_tensors": self.stored_tensors,
            "kept_tensors": self.kept_tensors,
            "kept_nodes": self.kept_nodes,
            "converter": None if self.converter is None else self.converter.value,
            "small_weight_bytes": self.small_weight_bytes,
            "rungs_not_taken": [rung.describe() for rung in self.rungs],
            "range_problems": [problem.describe() for problem in self.range_problems],
            "repairs": self.repairs,
            "arithmetic": self.arithmetic,
            "latency_ratio": self.latency_ratio,
            "latency_s": self.latency_s,
            "data": self.data,
            "synthetic": self.synthetic,
            "max_drift": self.max_drift,
            "outputs": [output.describe() for output in self.outputs],
            "not_finite": [each.describe() for each in self.unanswered],
            "saturated": [each.describe() for each in self.saturated],
            "scores": [score.describe() for score in self.scores],
            "providers": [provider.describe() for provider in self.providers],
            "far_from_normal": [each.describe() for each in self.ventured],
            "refused_by_pack": self.refused,
            "calibrated_on": self.calibrated_on,
            "choices": [choice.describe() for choice in self.choices],
            "pruned": None if self.pruned is None else self.pruned.describe(),
            "seconds": round(self.seconds, 3),
        }
