"""`edgetool optimize`: what the runtime makes of a graph when it loads it, made once, on the host, and verified."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edge_agent.errors import AccuracyError, ConversionError, UsageError
from edgetool.choices import Level, LevelName, as_member
from edgetool.data import DataSource, as_files
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.graph.custom_ops import read_custom_ops
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.onnx_file import load_model, write_result
from edgetool.graph.walks import nodes_of
from edgetool.graph.weights import to_bytes
from edgetool.paths import StrPath, as_path
from edgetool.verify.drift import OutputDrift
from edgetool.verify.fitting import explain, samples_for
from edgetool.verify.verifier import Limits, ProviderCheck, Verifier
from edgetool.verify.workbench import Workbench

__all__ = ["OptimizeReport", "Snapshot", "optimize"]

_MAX_DRIFT = 1e-3
"""Fused operators sum in another order."""
_BUDGET_S = 0.6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model before or after."""

    nodes: int
    size_bytes: int
    load_s: float
    latency_s: float

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "nodes": self.nodes,
            "size_bytes": self.size_bytes,
            "load_s": self.load_s,
            "latency_s": self.latency_s,
        }


@dataclass(frozen=True, slots=True)
class OptimizeReport:
    """What came of `optimize`."""

    model: Path
    output: Path
    level: Level
    before: Snapshot
    after: Snapshot
    outputs: list[OutputDrift]
    providers: list[ProviderCheck]
    data: str
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "model": str(self.model),
            "output": str(self.output),
            "level": self.level.value,
            "before": self.before.describe(),
            "after": self.after.describe(),
            "outputs": [output.describe() for output in self.outputs],
            "providers": [provider.describe() for provider in self.providers],
            "data": self.data,
            "seconds": round(self.seconds, 3),
        }


def optimize(
    model: StrPath,
    output: StrPath | None = None,
    *,
    level: Level | LevelName = Level.BASIC,
    data: DataSource | None = None,
    custom_ops: StrPath | Sequence[StrPath] = (),
    timeout_s: float = DEFAULT_S,
) -> OptimizeReport:
    """Write the graph that the runtime would make of a model when it loads it.

    Args:
        model: the ONNX file; it is never changed.
        output: where to write; beside the model with `.optimized.onnx` when not given.
        level: how far; beyond `basic` the result has operators of ONNX Runtime that other providers do not know.
        data: samples to compare on; made up when not given.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with the model.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: the model does not run, the runtime cannot optimise it, or one file cannot hold it.
        AccuracyError: the result answers differently.
        DataError: the data do not fit the model.
        OutOfTimeError: the model takes longer than that, or never ends.
        UsageError: the output would overwrite the model; or a library is none, or is not needed.
    """
    started = time.monotonic()
    level = as_member(Level, level, named="level")
    model = Path(model)
    output = as_path(output) or model.with_name(f"{model.name.removesuffix('.onnx')}.optimized.onnx")
    if output.resolve() == model.resolve():
        raise UsageError(f"{output}: is the model itself, which is never overwritten; give another -o")
    original = load_model(model)
    ops = read_custom_ops(custom_ops)
    ops.check((model, original))
    deadline = Deadline(model, timeout_s)
    with (
        tempfile.TemporaryDirectory(prefix="edgetool-") as name,
        Workbench(Path(name), deadline=deadline, libraries=ops.here) as bench,
    ):
        before, after = Path(name) / "before.onnx", Path(name) / "after.onnx"
        before.write_bytes(to_bytes(original, model))
        samples = samples_for(original, before, bench, as_files(data))
        try:
            verifier = Verifier(bench, before, Limits(_MAX_DRIFT, 0.0))
        except ConversionError as exc:
            raise ConversionError(f"{model}: the model itself does not run: {explain(str(exc), original)}") from exc
        bench.optimize(before, after, level.ort_name)
        optimized = onnx.load(after)
        strip_metadata(optimized)
        content = to_bytes(optimized, output)
        after.write_bytes(content)
        found = verifier.check(after)
        if not found.is_right:
            raise AccuracyError(f"{model}: optimized at level {level.value}, {found.problem}; nothing was written")
        timing = bench.time([before, after], budget_s=_BUDGET_S)
        shots = [
            Snapshot(
                nodes=sum(1 for _ in nodes_of(graph.graph)),
                size_bytes=path.stat().st_size,
                load_s=min(bench.load(path, "cpu", threads=1) for _ in range(3)),
                latency_s=timing.seconds(number),
            )
            for number, (graph, path) in enumerate(((original, before), (optimized, after)))
        ]
        write_result(output, content)
    seconds = time.monotonic() - started
    return OptimizeReport(
        model, output, level, shots[0], shots[1], found.drifts, found.providers, samples.origin, seconds
    )
