"""`edgetool bench`: how fast models are on the providers of this machine, with noise spread over all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_agent.engine.providers import PROVIDERS, available_providers
from edge_agent.errors import ConversionError, UsageError
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.graph.custom_ops import MISSING_FIX, missing_operator, read_custom_ops
from edgetool.graph.edits import number_nodes
from edgetool.graph.onnx_file import load_model
from edgetool.graph.weights import to_bytes
from edgetool.paths import StrPath, as_paths
from edgetool.verify.arrays import Sample
from edgetool.verify.finite import unanswered
from edgetool.verify.samples import TooLargeError, make_batch
from edgetool.verify.workbench import Workbench

__all__ = ["BenchReport", "BenchRow", "bench"]

_ROUNDS = 12
_BURST_S = 0.02
_MAX_BURST = 400


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One model on one provider with one batch size."""

    model: str
    provider: str
    threads: int
    batch: int
    load_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    rows_per_s: float
    memory_bytes: int | None
    """Of a process that has loaded this model and nothing else, interpreter and runtime included; None where the system
    does not tell."""
    not_placed: int
    """Nodes that the provider left to the CPU's."""
    nodes: int
    """Nodes that ran, fused ones counted once."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What came of `bench`."""

    rows: list[BenchRow]
    left_out: list[str]
    """Combinations that did not run, with the reason."""
    not_finite: list[str] = field(default_factory=list)
    """Outputs that are NaN or infinite for some of the made-up rows, in words."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "rows": [row.describe() for row in self.rows],
            "left_out": self.left_out,
            "not_finite": self.not_finite,
        }


@dataclass(slots=True)
class _Lane:
    """One child process: a model on a provider."""

    name: str
    path: Path
    provider: str
    threads: int
    bench: Workbench
    batches: list[int]
    load_s: float = 0.0
    not_placed: int = 0
    nodes: int = 0
    memory_bytes: int | None = None
    times: dict[int, list[float]] = field(default_factory=dict)
    repeats: dict[int, int] = field(default_factory=dict)


def bench(
    models: StrPath | Sequence[StrPath],
    *,
    providers: str | Sequence[str] = (),
    batches: Sequence[int] = (1, 8, 64, 512),
    threads: Sequence[int] = (1,),
    custom_ops: StrPath | Sequence[StrPath] = (),
    timeout_s: float = DEFAULT_S,
) -> BenchReport:
    """Time models on made-up rows; every model and provider in a process of its own, taking turns.

    Args:
        models: one ONNX file, or several.
        providers: one name or several, as in `agent.toml`; all that are installed when empty.
        batches: rows in one inference.
        threads: of one inference.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with each model.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: a model cannot be read, or is larger than one file may be.
        OutOfTimeError: the models take longer than that, or one never ends.
        UsageError: a provider is not installed; or a library is none, or is not needed.
    """
    deadline = Deadline(", ".join(str(path) for path in as_paths(models)), timeout_s)
    wanted = [providers] if isinstance(providers, str) else list(providers)
    wanted = wanted or [provider.name for provider in available_providers()]
    _check_providers(wanted)
    ops = read_custom_ops(custom_ops)
    read = [(path, load_model(path)) for path in as_paths(models)]
    ops.check(*read)
    left_out: list[str] = []
    not_finite: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgetool-") as name, ExitStack() as stack:
        lanes: list[_Lane] = []
        for number, (model, loaded) in enumerate(read):
            path = Path(name) / f"{number}" / "model.onnx"
            path.parent.mkdir()
            number_nodes(loaded)
            path.write_bytes(to_bytes(loaded, model))
            samples, usable = _samples(loaded, model, batches, left_out)
            opened = len(lanes)
            for provider in wanted:
                for count in threads:
                    child = stack.enter_context(Workbench(path.parent, samples, deadline=deadline, libraries=ops.here))
                    lane = _Lane(model.name, path, provider, count, child, usable)
                    if usable and _open(lane, left_out):
                        lanes.append(lane)
            for lane in lanes[opened : opened + 1]:
                with suppress(ConversionError):  # what it cannot give as a whole, it can be timed with
                    found = unanswered(lane.bench.run(lane.path, lane.provider), samples)
                    not_finite += [f"{model.name}: on made-up rows, {each.in_words()}" for each in found]
        _take_turns(lanes)
        for lane in lanes:
            lane.memory_bytes = lane.bench.memory()
    return BenchReport([_row(lane, batch) for lane in lanes for batch in lane.batches], left_out, not_finite)


def _check_providers(wanted: Sequence[str]) -> None:
    installed = [provider.name for provider in available_providers()]
    for name in wanted:
        if name not in PROVIDERS or name not in installed:
            raise UsageError(f"provider {name!r} is not installed here; this runtime has: {', '.join(installed)}")


def _samples(
    model: onnx.ModelProto, path: Path, batches: Sequence[int], left_out: list[str]
) -> tuple[list[Sample], list[int]]:
    samples: list[Sample] = []
    usable: list[int] = []
    for batch in batches:
        try:
            sample = make_batch(model, batch)
        except TooLargeError as exc:
            left_out.append(f"{path.name}: batch {batch}: {exc}")
            continue
        if sample is None:
            left_out.append(f"{path.name}: batch {batch}: the model fixes another batch size")
            continue
        samples.append(sample)
        usable.append(batch)
    return samples, usable


def _open(lane: _Lane, left_out: list[str]) -> bool:
    """Load, warm up, and find out how many runs make a burst."""
    try:
        placed = lane.bench.placement(lane.path, lane.provider)
        lane.nodes = len(placed)
        lane.not_placed = sum(1 for *_, where in placed if where != PROVIDERS[lane.provider].ort_name)
        lane.load_s = lane.bench.load(lane.path, lane.provider, threads=lane.threads)
        for number, batch in enumerate(lane.batches):
            once = min(lane.bench.burst(lane.path, lane.provider, sample=number, repeats=3))
            lane.repeats[batch] = max(2, min(_MAX_BURST, int(_BURST_S / max(once, 1e-7))))
            lane.times[batch] = []
    except ConversionError as exc:
        missing = missing_operator(str(exc))
        reason = f"{missing}; {MISSING_FIX}" if missing else str(exc)
        left_out.append(f"{lane.name}: provider {lane.provider}: {reason}")
        return False
    return True


def _take_turns(lanes: list[_Lane]) -> None:
    for number in range(_ROUNDS):
        for lane in lanes if number % 2 == 0 else lanes[::-1]:
            for sample, batch in enumerate(lane.batches):
                repeats = lane.repeats[batch]
                times = lane.bench.burst(lane.path, lane.provider, sample=sample, repeats=repeats)
                # The first of a burst finds the caches as the lane before left them.
                lane.times[batch] += times[1:]


def _row(lane: _Lane, batch: int) -> BenchRow:
    p50, p95, p99 = np.percentile(lane.times[batch], (50, 95, 99))
    return BenchRow(
        model=lane.name,
        provider=lane.provider,
        threads=lane.threads,
        batch=batch,
        load_s=lane.load_s,
        p50_s=float(p50),
        p95_s=float(p95),
        p99_s=float(p99),
        rows_per_s=batch / float(p50),
        memory_bytes=lane.memory_bytes,
        not_placed=lane.not_placed,
        nodes=lane.nodes,
    )
