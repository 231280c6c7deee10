"""What one call of `quantize` starts from: the model, its weights in a store, samples, and the original's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from edge_agent.errors import ConversionError
from edgetool.choices import Io, Precision, Target
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.randomness import draws_numbers, pin_seeds
from edgetool.graph.repairs import repair
from edgetool.graph.weights import WeightStore, read_light, size_of
from edgetool.precision.context import Context, match_nodes
from edgetool.precision.facts import gather_facts
from edgetool.precision.report import Pruned
from edgetool.verify.arrays import Sample
from edgetool.verify.fitting import is_about_inputs, samples_for
from edgetool.verify.ranges import TensorRange, note_range
from edgetool.verify.samples import SampleSet
from edgetool.verify.verifier import Limits, Verifier, state_pairs
from edgetool.verify.workbench import Workbench

__all__ = ["Asked", "Work", "prepare"]

_LARGE_BYTES = 48 << 20
"""Above this other providers get a model in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of one call of `quantize`."""

    model: Path
    output: Path
    precision: Precision
    target: Target
    data: Path | None
    limits: Limits
    keep: tuple[str, ...]
    io: Io
    input_range: tuple[float, float] | None
    synthetic: bool
    threshold: float | None


@dataclass(slots=True)
class Work:
    """What one call of `quantize` goes through."""

    asked: Asked
    original: onnx.ModelProto
    """As it was read, with its large constants in the store."""
    stripped: onnx.ModelProto
    metadata_bytes: int
    size_before: int
    samples: SampleSet
    context: Context
    repairs: list[str]
    pruned: Pruned | None = None


def prepare(asked: Asked, folder: Path, bench: Workbench) -> Work:
    """Read a model, repair it, and run the original.

    Args:
        asked: what the user wants.
        folder: for the weights.
        bench: works in that folder, and has the samples afterwards.

    Raises:
        ConversionError: the model cannot be read, or does not run.
        DataError: the data do not fit it.
        UsageError: a node to keep is not there.
    """
    store = WeightStore(folder)
    original, size_before = read_light(asked.model, store)
    repairs = _pin(original, bench)
    start = store.save(original, "original.onnx")
    samples = samples_for(original, start, bench, asked.data, asked.input_range)
    stripped = onnx.ModelProto()
    stripped.CopyFrom(original)
    metadata_bytes = strip_metadata(stripped)
    repaired = onnx.ModelProto()
    repaired.CopyFrom(stripped)
    repaired, done = repair(repaired, store, fed={name for sample in samples.samples for name in sample})
    repairs += done
    cut_in = store if size_before > _LARGE_BYTES else None
    make = partial(Verifier, bench, limits=asked.limits, threshold=asked.threshold, cut_in=cut_in)
    start, verifier = _baseline(
        asked, partial(make, states=state_pairs(original)), start, store.save(repaired, "repaired.onnx"), repairs
    )
    context = Context(
        model=repaired,
        path=start,
        size_bytes=size_of(stripped, store),
        gather=partial(gather_facts, repaired, store, bench, _sampled_ranges(samples.samples)),
        store=store,
        bench=bench,
        verifier=verifier,
        target=asked.target,
        io=asked.io,
        keep=match_nodes(repaired, asked.keep),
        calibrated=not samples.synthetic or asked.synthetic,
    )
    return Work(asked, original, stripped, metadata_bytes, size_before, samples, context, repairs)


def _pin(model: onnx.ModelProto, bench: Workbench) -> list[str]:
    """Make a model that draws numbers draw the same ones in every comparison; gives the note for the report."""
    if not draws_numbers(model):
        return []
    # What a session draws depends on what it drew before.
    bench.fresh = True
    seeds = pin_seeds(model)
    return [f"{seeds} nodes draw random numbers and had a seed for the comparison"] if seeds else []


def _baseline(
    asked: Asked, make: Callable[[Path], Verifier], start: Path, repaired: Path, repairs: list[str]
) -> tuple[Path, Verifier]:
    """What candidates are held against: the original, or its repaired form where only that runs."""
    try:
        return start, make(start)
    except ConversionError as exc:
        try:
            verifier = make(repaired)
        except ConversionError:
            made_up = asked.data is None and is_about_inputs(str(exc))
            hint = "; made-up inputs may not suit it: give --data" if made_up else ""
            raise ConversionError(f"{asked.model}: the model itself does not run: {exc}{hint}") from exc
        repairs.append(f"only the repaired model runs: {str(exc)[:200]}")
        return repaired, verifier


def _sampled_ranges(samples: Sequence[Sample]) -> dict[str, TensorRange]:
    found: dict[str, TensorRange] = {}
    for number, sample in enumerate(samples):
        for name, array in sample.items():
            note_range(found, name, array, number)
    return found
