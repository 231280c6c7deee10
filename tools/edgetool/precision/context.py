"""What every rung of the ladder works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from edge_agent.errors import UsageError
from edgetool.choices import Io, Target
from edgetool.graph.walks import nodes_of
from edgetool.graph.weights import WeightStore
from edgetool.precision.facts import Facts
from edgetool.verify.verifier import Verification, Verifier
from edgetool.verify.workbench import Workbench

__all__ = ["Calibration", "Candidate", "Context", "Converter", "Rung", "match_nodes"]


class Converter(StrEnum):
    """What makes a graph compute in float16."""

    OWN = "edgetool"
    LIBRARY = "onnxconverter-common"


@dataclass(frozen=True)
class Context:
    """The repaired model, what is known of it, and the means to try candidates."""

    model: onnx.ModelProto
    path: Path
    """The original's file in the temporary folder."""
    size_bytes: int
    """Size of the original without metadata."""
    gather: Callable[[], Facts]
    store: WeightStore
    bench: Workbench
    verifier: Verifier
    target: Target
    io: Io
    keep: dict[str, str]
    """Nodes that the user wants in float32, with the reason."""
    widened: bool
    """Constants of the original are float16."""
    calibration: Callable[[], Calibration] | None
    """What fixed scales are made from; None where there are no readings, and nobody has allowed made-up ones."""

    @cached_property
    def facts(self) -> Facts:
        """What a run shows of the model's tensors; gathered on first use, because a large graph loads for seconds."""
        return self.gather()

    @cached_property
    def calibrated(self) -> Calibration | None:
        """The calibration, gathered on first use; None where there is none."""
        return None if self.calibration is None else self.calibration()


@dataclass(frozen=True, slots=True)
class Calibration:
    """Ranges of tensors for fixed scales, and where they are from."""

    facts: Facts
    origin: str
    """In words, for the report."""


@dataclass(slots=True)
class Candidate:
    """One form of the model that was tried."""

    rung: str
    """`converted`, `mixed` or `stored`."""
    model: onnx.ModelProto
    path: Path
    reason: str
    """What was done, in words."""
    verification: Verification
    precision: str
    converter: Converter | None = None
    """What made it compute in float16; None where it does not."""
    calibrated_on: str = ""
    """Where fixed scales are from; empty where it has none."""
    kept_nodes: dict[str, str] = field(default_factory=dict)
    """Nodes that stay float32 and would not have to, with the reason."""
    kept_tensors: dict[str, str] = field(default_factory=dict)
    stored_tensors: int = 0
    half_bytes: int = 0
    """Bytes of float32 weights that feed float16 or int8 operators now."""
    latency_ratio: float | None = None
    """Latency as a share of the original's, on the target's provider of this machine; None when it was not measured."""
    latency_s: float | None = None
    size_bytes: int = 0
    arithmetic: dict[str, Any] = field(default_factory=dict)
    """How the arithmetic was checked where the CPU provider hides its errors."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the ladder that was not taken."""

    rung: str
    reason: str

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {"rung": self.rung, "reason": self.reason}


def match_nodes(model: onnx.ModelProto, wanted: Sequence[str]) -> dict[str, str]:
    """Nodes that the user wants to keep in float32.

    Args:
        model: after `repair`.
        wanted: names of nodes, or types of operators.

    Raises:
        UsageError: a name matches nothing.
    """
    nodes = list(nodes_of(model.graph))
    kept: dict[str, str] = {}
    for name in wanted:
        found = [node.name for node in nodes if name in (node.name, node.op_type)]
        if not found:
            known = ", ".join(sorted({node.op_type for node in nodes})[:20])
            raise UsageError(f"--keep {name!r}: no node has this name or type; the model has: {known}")
        kept.update(dict.fromkeys(found, f"--keep {name}"))
    return kept
