"""Made-up samples of shapes that a model runs on.

Exporters leave axes free that the graph then fixes: a batch of 1 in a Reshape, a window in a table of positions, the
channels of a convolution. What sizes there can be stands in the model's constants, and a run decides.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from edge_agent.engine.runtime import installed_runtimes
from edge_agent.errors import ConversionError
from edgetool.choices import LayoutIs
from edgetool.data import DataFiles
from edgetool.graph.custom_ops import MISSING_FIX, missing_operator
from edgetool.graph.runtimes import too_new_for
from edgetool.graph.versions import UNKNOWN_FIX, unknown_opset
from edgetool.graph.walks import graphs_of
from edgetool.verify.samples import (
    ModelInput,
    SampleSet,
    Sizes,
    TooLargeError,
    generate_samples,
    model_inputs,
    read_samples,
)
from edgetool.verify.workbench import NoAnswerError, Workbench

__all__ = ["explain", "is_about_inputs", "samples_for"]

_MAX_TRIES = 120
_MAX_SIZES = 16
_LARGEST = 4096
_SHAPE_VALUES = 8
"""An integer constant with more values is no shape."""
_ROOMY = 32
_RANKS = (3, 4, 1)
_IN_A_RUN = ("while running", "nvalid dimensions", "nvalid rank")
"""How the runtime begins when a model was loaded and its inputs do not suit it."""


def samples_for(
    model: onnx.ModelProto,
    path: Path,
    bench: Workbench,
    data: Path | DataFiles | None = None,
    value_range: tuple[float, float] | None = None,
    layout: LayoutIs = LayoutIs.ROWS_FIRST,
) -> SampleSet:
    """Samples for a model, given to a workbench: the user's, or made up in shapes that the model runs on.

    Args:
        model: any model with tensor inputs.
        path: its file, for `bench`.
        bench: runs it, and has the samples afterwards.
        data: the user's samples; made up when None, as `generate_samples` does where no shape is found.
        value_range: of made-up inputs.
        layout: how the model takes windows of the data, where its shape fits both.

    Raises:
        DataError: the data do not fit the model, or nothing can be made up for an input of its type.
        OutOfTimeError: the model gives no answer.
        UsageError: both fit, and `layout` leaves it open.
    """
    if data is not None:
        given = read_samples(model, data, layout)
        bench.use_samples(given.samples)
        return given
    first = generate_samples(model, value_range, folder=path.parent)
    inputs = model_inputs(model)
    problem = _problem(path, bench, first)
    if is_about_inputs(problem) and _is_free(inputs):
        for sizes in itertools.islice(_tries(model, inputs), _MAX_TRIES):
            try:
                found = generate_samples(model, value_range, sizes, folder=path.parent)
            except TooLargeError:
                continue
            if not _problem(path, bench, found):
                bench.use_samples(found.samples)
                return found
    bench.use_samples(first.samples)
    return first


def explain(problem: str, model: onnx.ModelProto) -> str:
    """What a runtime says of a model, with the reason where that may be its versions, or an operator of a library.

    Args:
        problem: in the runtime's words.
        model: that it did not run.
    """
    if is_about_inputs(problem):
        return problem
    unknown = unknown_opset(model)
    if unknown:
        return f"{problem}; {unknown}: {UNKNOWN_FIX}"
    name, version = next(iter(installed_runtimes().items()), ("onnxruntime", ""))
    why = too_new_for(model, version)
    if why:
        return f"{name} {version} is too old for it: {why}"
    missing = missing_operator(problem)
    return f"{missing}; {MISSING_FIX}" if missing else problem


def is_about_inputs(problem: str) -> bool:
    """True if the runtime loaded a model and then failed on its inputs."""
    return any(words in problem for words in _IN_A_RUN)


def _problem(path: Path, bench: Workbench, samples: SampleSet) -> str:
    bench.use_samples(samples.samples[:1])
    try:
        bench.run(path)
    except NoAnswerError as exc:
        # No other sizes are tried: this is the model itself, and nothing can be done without its answers.
        raise bench.deadline.error(f"it was first run and {exc}") from exc
    except ConversionError as exc:
        return str(exc)
    return ""


def _is_free(inputs: list[ModelInput]) -> bool:
    return any(item.shape is None or None in item.shape for item in inputs)


def _tries(model: onnx.ModelProto, inputs: list[ModelInput]) -> Iterator[Sizes]:
    """Sizes to try, the likely ones first: fewer rows, one size for all, one axis of its own, each axis its own."""
    usual, single = Sizes.usual(inputs), Sizes.usual(inputs, rows=1)
    yield single
    ranks = (2, *_RANKS) if any(item.shape is None for item in inputs) else (2,)
    known = _sizes_in(model)
    for rank, size, start in itertools.product(ranks, known, (usual, single)):
        yield replace(start, others=size, rank=rank)
    for rank, size, start in itertools.product(ranks, known, (single, usual)):
        for name in _free_axes(inputs, rank):
            yield replace(start, others=_ROOMY, rank=rank, by_axis={**start.by_axis, name: size})
    names = [name for name in _free_axes(inputs, 2) if name not in usual.by_axis]
    names += [name for name in usual.by_axis if name in {axis for item in inputs for axis in item.axes}]
    for chosen in itertools.product(known, repeat=min(len(names), 2)):
        yield replace(usual, by_axis={**usual.by_axis, **dict(zip(names, chosen, strict=False))})


def _free_axes(inputs: list[ModelInput], rank: int) -> list[str]:
    names: dict[str, None] = {}
    for item in inputs:
        shape = item.shape if item.shape is not None else (None,) * rank
        axes = item.axes or tuple(f"{item.name}/{axis}" for axis in range(rank))
        names.update((name, None) for name, size in zip(axes[1:], shape[1:], strict=True) if size is None)
    return list(names)


def _sizes_in(model: onnx.ModelProto) -> list[int]:
    """Sizes of constants, and numbers in constants that may be shapes; the most frequent first."""
    found: Counter[int] = Counter()
    for graph in graphs_of(model.graph):
        tensors = [*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.HasField("t"))]
        for tensor in tensors:
            found.update(int(dim) for dim in tensor.dims)
            if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1 and tensor.dims[0] <= _SHAPE_VALUES:
                found.update(int(value) for value in onnx.numpy_helper.to_array(tensor))
    return [size for size, _ in found.most_common() if 1 < size <= _LARGEST][:_MAX_SIZES]
