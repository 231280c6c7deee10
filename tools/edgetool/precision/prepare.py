"""What one call of `quantize` starts from: the model, its weights in a store, samples, and the original's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from edge_agent.errors import ConversionError
from edgetool.choices import Io, LayoutIs, Precision, Target
from edgetool.data import DataFiles
from edgetool.graph.custom_ops import CustomOps
from edgetool.graph.maps import unzip_maps
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.randomness import draws_numbers, pin_seeds
from edgetool.graph.repairs import repair
from edgetool.graph.versions import lower_versions
from edgetool.graph.weights import WeightStore, read_light, size_of
from edgetool.graph.widen import widen
from edgetool.precision.context import Calibration, Context, match_nodes
from edgetool.precision.facts import gather_facts
from edgetool.precision.report import Pruned
from edgetool.verify.fitting import explain, is_about_inputs, samples_for
from edgetool.verify.layout import held_in
from edgetool.verify.odd import FARTHEST, moved_windows
from edgetool.verify.samples import SampleSet
from edgetool.verify.verifier import Limits, Verifier, state_pairs
from edgetool.verify.workbench import Workbench

__all__ = ["Asked", "Work", "prepare"]

_LARGE_BYTES = 48 << 20
"""Above this other providers get a model in pieces."""
_CALIBRATION_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of one call of `quantize`."""

    model: Path
    output: Path
    precision: Precision
    target: Target
    data: DataFiles | None
    layout: LayoutIs
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
    lowered: bool = False
    """The file asked for newer versions than it needs, so that its own bytes are not what is kept."""
    pruned: Pruned | None = None


def prepare(asked: Asked, folder: Path, bench: Workbench, ops: CustomOps) -> Work:
    """Read a model, repair it, and run the original.

    Args:
        asked: what the user wants.
        folder: for the weights.
        bench: works in that folder, and has the samples afterwards.
        ops: the libraries that it loads.

    Raises:
        ConversionError: the model cannot be read, or does not run.
        DataError: the data do not fit it.
        UsageError: a node to keep is not there, or the model has no operator of these libraries.
    """
    store = WeightStore(folder)
    original, size_before = read_light(asked.model, store)
    ops.check((asked.model, original))
    lowered = [*lower_versions(original), *unzip_maps(original)]
    repairs = [*lowered, *_pin(original, bench)]
    start = store.save(original, "original.onnx")
    samples = samples_for(original, start, bench, asked.data, asked.input_range, asked.layout)
    stripped = onnx.ModelProto()
    stripped.CopyFrom(original)
    metadata_bytes = strip_metadata(stripped)
    repaired = onnx.ModelProto()
    repaired.CopyFrom(stripped)
    repaired, done = repair(repaired, store, fed={name for sample in samples.samples for name in sample})
    repairs += done
    make = partial(
        _judge(asked, bench, samples),
        states=state_pairs(original),
        cut_in=store if size_before > _LARGE_BYTES else None,
    )
    start, verifier = _baseline(asked, make, start, store.save(repaired, "repaired.onnx"), repairs)
    # Behind the baseline: the model as it was read, in float16, stays the judge.
    widened = widen(repaired, store)
    if widened:
        repairs.append(f"{widened} float16 constants were made float32, to be tried in every form")
    may_calibrate = not samples.synthetic or asked.synthetic
    has_room = verifier.probes is not None or (verifier.spoken is not None and verifier.spoken.of_points)
    calibrate = partial(_calibrate, repaired, store, bench, shown=samples, has_room=has_room)
    context = Context(
        model=repaired,
        path=start,
        size_bytes=size_of(stripped, store),
        gather=partial(gather_facts, repaired, store, bench, samples=samples.samples),
        store=store,
        bench=bench,
        verifier=verifier,
        target=asked.target,
        io=asked.io,
        keep=match_nodes(repaired, asked.keep),
        widened=widened > 0,
        calibration=calibrate if may_calibrate else None,
    )
    return Work(asked, original, stripped, metadata_bytes, size_before, samples, context, repairs, bool(lowered))


def _judge(asked: Asked, bench: Workbench, shown: SampleSet) -> Callable[..., Verifier]:
    return partial(
        Verifier,
        bench,
        limits=asked.limits,
        threshold=asked.threshold,
        layout=shown.layout,
        measured=not shown.synthetic,
    )


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
            explained = explain(str(exc), onnx.load(start, load_external_data=False))
            hint = "; made-up inputs may not suit it: give --data" if made_up else ""
            raise ConversionError(f"{asked.model}: the model itself does not run: {explained}{hint}") from exc
        repairs.append(f"only the repaired model runs: {str(exc)[:200]}")
        return repaired, verifier


def _calibrate(
    model: onnx.ModelProto, store: WeightStore, bench: Workbench, *, shown: SampleSet, has_room: bool
) -> Calibration:
    """Ranges on half of the readings, so that the other half can tell whether the scales are right.

    What can be a detector has room for readings far from normal: a scale as wide as normal ones would clip the rest.
    """
    half = held_in(shown.samples, shown.layout)
    picks = np.unique(np.linspace(0, len(half) - 1, min(len(half), _CALIBRATION_SAMPLES)).astype(int))
    samples = [half[number] for number in picks]
    origin = (
        "half of the samples" if len(half) < len(shown.samples) or half[0] is not shown.samples[0] else "all samples"
    )
    if shown.layout is not None and has_room:
        moved = moved_windows(shown.layout.windows_of(samples))
        samples += shown.layout.batches(moved, len(moved))
        origin += f", and {len(moved)} windows moved by {FARTHEST:g} times a channel's spread"
    return Calibration(gather_facts(model, store, bench, samples=samples, on=bench.keep_samples(samples)), origin)
