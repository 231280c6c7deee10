"""A program or module of PyTorch becomes a model by PyTorch's own exporter, whose defaults are not what a device needs.

The batch is open, each output has a name that the module gives it, the weights are inside, and nothing of the machine
that it was trained on is left.
"""

from __future__ import annotations

import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edge_agent.errors import ConversionError, UsageError
from edgetool.extras import require
from edgetool.frameworks.made import BATCH, Made, batch_axes
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.pytorch.naming import leave_out_sums, name_ends
from edgetool.frameworks.shapes import Shape
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.origin import Origin
from edgetool.graph.randomness import draws_numbers
from edgetool.verify.arrays import Sample

__all__ = ["convert"]

_OPSET, _SCRIPT_OPSET = 18, 17
"""For programs, the lowest that the exporter makes without leaving it to a converter of versions; for TorchScript, the
highest that its exporter was finished for. All runtimes here read both.
"""
_ITEMS = 2
"""An exporter takes 0 and 1 for sizes that never change."""
_OPEN = (
    "save it for all sizes: torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim('batch')},)), "
    "with x of two items"
)
_TRACED = "sizes must come from the input's shape, such as x.shape[0], and no branch may depend on values"
_TENSORS_ALONE = "forward has to take tensors, one for each --shape, and no dictionary or list of them"
_LARGEST_BYTES = (1 << 31) - (1 << 20)


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    shape: Shape
    dtype: Any
    is_open: bool
    """The batch of a program is open already."""
    open_axis: int | None = None
    """Of a program, another axis that is open."""
    span: tuple[int, int] | None = None
    """Of integers, the smallest and the largest that the program was saved with."""


@dataclass(frozen=True, slots=True)
class _Called:
    """What is called with tensors, and gives tensors."""

    run: Callable[[Sequence[Any]], Any]
    """With one tensor for each input."""
    inputs: tuple[_Input, ...]
    fixed: int | None = None
    """The only size of a batch that it takes."""
    is_flat: bool = True
    """It takes each tensor by itself and by its place."""

    def advice(self, what: str) -> str:
        """What to do where it does not run in other batches; empty where it should."""
        return "" if self.fixed is None else f"{what} was saved for batches of {self.fixed} alone; {_OPEN}"


def convert(found: Any, what: str, shapes: Sequence[Shape], *, open_time: int | None = None) -> Made:
    """Make a model.

    Args:
        found: from `open_torch`.
        what: it is, for a person.
        shapes: of its inputs; a program knows its own.
        open_time: an axis of the first input whose size is left open, too.

    Raises:
        ConversionError: PyTorch cannot export it, or it draws random numbers.
        UsageError: shapes are missing, or are not those of the program.
    """
    torch = require("torch", extra="torch")
    with _quiet():
        if isinstance(found, torch.export.ExportedProgram):
            called = _called_program(torch, found, what, shapes)
            program = found
            open_time = called.inputs[0].open_axis if open_time is None else open_time
            if not all(item.is_open for item in called.inputs) or open_time != called.inputs[0].open_axis:
                if not called.is_flat:
                    raise ConversionError(
                        f"{what}: takes tensors by keyword, or in a dictionary or list, and not every size of a batch; "
                        "save it with dynamic_shapes of that form, with {0: torch.export.Dim('batch')} for each tensor"
                    )
                program = _traced(torch, found.module(check_guards=False), called, what, open_time)
            model = _by_exporter(torch, program, what)
        elif isinstance(found, torch.jit.ScriptModule):
            called = _called_module(torch, found, _script_names(found), what, shapes)
            model = _by_script(torch, found, called, what, open_time)
        else:
            called = _called_module(torch, found, _names_of(found, what), what, shapes)
            model = _by_exporter(torch, _traced(torch, found, called, what, open_time), what)
        names = _named(torch, called, what)
    if draws_numbers(model):
        raise ConversionError(
            f"{what}: draws random numbers when it answers, in evaluation mode, too: a VAE that samples, or a dropout "
            "that is always on. Let its forward sample in training only, and save it again: z = mean + spread * "
            "torch.randn_like(spread) if self.training else mean. The weights stay as they are"
        )
    given = {item.name: item.shape.axis for item in called.inputs}
    names = [f"{name}_out" if name in given else name for name in names]
    name_ends(model, what, given, names, open_time)
    left_out = leave_out_sums(model, what)
    strip_metadata(model)
    into = batch_axes(model.graph.output)

    def answer(sample: Sample) -> Sample:
        with _quiet():
            answers = [_flat(torch, called.run(part))[1] for part in _parts(torch, sample, called)]
        count = sample[called.inputs[0].name].shape[called.inputs[0].shape.axis]
        whole = [
            (name, torch.cat(tensors, dim=into[name]))
            for name, tensors in zip(names, zip(*answers, strict=True), strict=True)
            if name in into
        ]
        return {name: tensor.narrow(into[name], 0, count).numpy() for name, tensor in whole}

    return Made(
        model,
        answer,
        Origin(framework=f"PyTorch {torch.__version__}", estimator=what, converter=f"PyTorch {torch.__version__}"),
        open_axis=open_time,
        spans={item.name: item.span for item in called.inputs if item.span is not None},
        advice=called.advice(what),
        notes=[f"output {name!r} is one for all items of a batch, and is left out" for name in left_out],
    )


def _named(torch: Any, called: _Called, what: str) -> list[str]:
    """Names of what the module answers.

    Raises:
        ConversionError: it fails.
    """
    try:
        names, _ = _flat(torch, called.run(_tensors(torch, called.inputs, called.fixed or _ITEMS)))
    # It is the user's code, and raises what it likes.
    except (Exception, SystemExit) as exc:
        raise ConversionError(
            f"{what}: fails for {called.fixed or _ITEMS} items of float32 ({one_line(exc)}); is the shape right, and "
            "is the model in float32?"
        ) from exc
    return names


def _parts(torch: Any, sample: Sample, called: _Called) -> Iterator[list[Any]]:
    """A sample as tensors, in batches of the size that is taken; the last one is filled up with its last item."""
    axes = [item.shape.axis for item in called.inputs]
    given = [torch.from_numpy(sample[item.name].copy()) for item in called.inputs]
    count = given[0].shape[axes[0]]
    size = called.fixed or count
    for start in range(0, count, size):
        places = torch.arange(start, start + size).clamp(max=count - 1)
        yield [tensor.index_select(axis, places) for tensor, axis in zip(given, axes, strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings and lines of the log, of which PyTorch has many, and with prints of the user's code kept off."""
    torch = require("torch", extra="torch")
    # Its loggers have levels of their own, which it sets again as it goes.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _called_program(torch: Any, program: Any, what: str, shapes: Sequence[Shape]) -> _Called:
    signature = program.graph_signature
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = []
    for name in signature.user_inputs:
        value = nodes[name].meta["val"] if name in nodes else None
        if not isinstance(value, torch.Tensor):
            raise ConversionError(
                f"{what}: takes {name!r}, which is no tensor; make a program that takes tensors alone"
            )
        inputs.append((name, value))
    first = inputs[0][1].shape
    symbol = first[0] if first and not isinstance(first[0], int) else None
    found = []
    asked = _by_input(shapes, [name for name, _ in inputs], what)
    for name, value in inputs:
        places = [axis for axis, size in enumerate(value.shape) if symbol is not None and str(size) == str(symbol)]
        axis = places[0] if places else asked[name].axis if name in asked else 0
        sizes = [int(size) if isinstance(size, int) else _hint(size) for size in value.shape]
        shape = Shape(name, tuple(size for place, size in enumerate(sizes) if place != axis), axis)
        if name in asked and asked[name] != replace(shape, name=asked[name].name):
            given = "x".join(str(size) for size in shape.sizes)
            raise UsageError(f"--shape: {what} was saved for {given} of its input {name!r}; leave it out")
        others = (place for place, size in enumerate(value.shape) if place != axis and not isinstance(size, int))
        found.append(_Input(name, shape, value.dtype, is_open=bool(places), open_axis=next(others, None)))
    module, spec = program.module(check_guards=False), program.call_spec.in_spec
    pytree = torch.utils._pytree  # noqa: SLF001
    leaves = pytree.tree_leaves(program.example_inputs or ())
    if len(leaves) == len(found):
        found = [replace(item, span=_span(leaf)) for item, leaf in zip(found, leaves, strict=True)]
    args, kwargs = pytree.tree_unflatten(list(range(len(found))), spec)
    is_flat = not kwargs and list(args) == list(range(len(found)))

    def run(tensors: Sequence[Any]) -> Any:
        args, kwargs = pytree.tree_unflatten(list(tensors), spec)
        return module(*args, **kwargs)

    size = inputs[0][1].shape[found[0].shape.axis]
    return _Called(run, tuple(found), fixed=None if found[0].is_open else int(size), is_flat=is_flat)


def _span(values: Any) -> tuple[int, int] | None:
    """The smallest and the largest of a tensor of integers; None of any other, and of an empty one."""
    if not hasattr(values, "dtype") or values.dtype.is_floating_point or values.dtype.is_complex or not values.numel():
        return None
    return int(values.min()), int(values.max())


def _hint(size: Any) -> int:
    """A size for an axis other than the batch's that is open."""
    hint = getattr(size.node, "hint", None)
    return int(hint) if hint else 8


def _names_of(module: Any, what: str) -> list[str]:
    """Names of what `forward` takes and has no default for."""
    parameters = inspect.signature(module.forward).parameters.values()
    for each in parameters:
        if each.kind is inspect.Parameter.KEYWORD_ONLY and each.default is inspect.Parameter.empty:
            raise ConversionError(
                f"{what}: forward takes {each.name!r} by keyword alone; save a form that takes it by its place, or has "
                "a default for it"
            )
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is inspect.Parameter.empty and each.kind not in kinds]


def _script_names(module: Any) -> list[str]:
    arguments = list(module.forward.schema.arguments)[1:]
    return [each.name for each in arguments if not each.has_default_value()]


def _called_module(torch: Any, module: Any, names: list[str], what: str, shapes: Sequence[Shape]) -> _Called:
    asked = _by_input(shapes, names, what)
    missing = [name for name in names if name not in asked]
    if missing:
        others = "".join(f", and --shape {name}:SIZES" for name in names[1:])
        raise UsageError(
            f"{what}: does not hold the shape of {', '.join(missing)}; say it, of one row or window without the batch: "
            f"--shape 9 for a row of 9 channels, --shape 60x9 for a window of 60 rows{others}"
        )
    inputs = tuple(_Input(name, replace(asked[name], name=name), torch.float32, is_open=False) for name in names)
    return _Called(lambda tensors: module(*tensors), inputs)


def _by_input(shapes: Sequence[Shape], names: list[str], what: str) -> dict[str, Shape]:
    if not names:
        raise ConversionError(f"{what}: takes no tensor by name; save a form whose forward names what it takes")
    found = {shape.name or names[0]: shape for shape in shapes}
    if len(found) < len(shapes):
        raise UsageError(f"--shape: is given twice for {names[0]}")
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise UsageError(f"--shape {unknown[0]}:…: {what} takes {', '.join(names)}")
    return found


def _tensors(torch: Any, inputs: Sequence[_Input], count: int = _ITEMS) -> list[Any]:
    """Made-up values, the same each time."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for item in inputs:
        shape = item.shape.of(count)
        values = torch.randn(shape, generator=generator)
        if not item.dtype.is_floating_point:
            low, high = item.span or (0, 0)
            values = torch.randint(low, high + 1, shape, generator=generator)
        found.append(values.to(item.dtype))
    return found


def _traced(torch: Any, module: Any, called: _Called, what: str, open_time: int | None) -> Any:
    """A program of a module, with an open batch."""
    batch = torch.export.Dim(BATCH, min=1)
    sizes: list[dict[int, Any]] = [{item.shape.axis: batch} for item in called.inputs]
    if open_time is not None:
        sizes[0][open_time] = torch.export.Dim("time", min=2)
    try:
        return torch.export.export(module, tuple(_tensors(torch, called.inputs)), dynamic_shapes=tuple(sizes))
    # It runs the user's code, and raises classes of many modules.
    except Exception as exc:
        advice = _TENSORS_ALONE if isinstance(exc, (TypeError, KeyError)) else _TRACED
        raise ConversionError(
            f"{what}: cannot be traced for batches of any size ({one_line(exc)}); {called.advice(what) or advice}"
        ) from exc


def _by_exporter(torch: Any, program: Any, what: str) -> onnx.ModelProto:
    require("onnxscript", extra="torch")
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=_OPSET, external_data=False)
        return _whole(made.model_proto, what)
    except ConversionError:
        raise
    # It raises classes of many modules for what it cannot export.
    except Exception as exc:
        raise ConversionError(f"{what}: PyTorch {torch.__version__} cannot export it ({one_line(exc)})") from exc


def _by_script(torch: Any, module: Any, called: _Called, what: str, open_time: int | None) -> onnx.ModelProto:
    """By the exporter for TorchScript, since that for programs does not take it."""

    class Flat(torch.nn.Module):  # type: ignore[misc]
        """Gives tensors in place of the dictionary or tuple that they are in."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: Any) -> Any:
            _, found = _flat(torch, self.inner(*tensors))
            return tuple(found)

    names = [item.name for item in called.inputs]
    axes = {item.name: {item.shape.axis: BATCH} for item in called.inputs}
    if open_time is not None:
        axes[names[0]][open_time] = "time"
    args = tuple(_tensors(torch, called.inputs))
    file = io.BytesIO()
    try:
        traced = torch.jit.trace(Flat().eval(), args, check_trace=False)
        torch.onnx.export(
            traced, args, file, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=_SCRIPT_OPSET
        )
    # It raises classes of many modules for what it cannot export.
    except Exception as exc:
        raise ConversionError(
            f"{what}: PyTorch {torch.__version__} cannot export this TorchScript with --shape "
            f"{'x'.join(map(str, called.inputs[0].shape.sizes))} ({one_line(exc)}). A model that takes the channels "
            "first has them first in --shape, too, as 9x60; or save the program: torch.export.save("
            "torch.export.export(model.eval(), (x,)), 'model.pt2')"
        ) from exc
    return _whole(onnx.load_from_string(file.getvalue()), what)


def _whole(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    if model.ByteSize() > _LARGEST_BYTES:
        raise ConversionError(f"{what}: becomes {model.ByteSize()} bytes, and one file of ONNX holds 2 GB")
    return model


def _flat(torch: Any, answer: Any) -> tuple[list[str], list[Any]]:
    """The tensors of an answer, each with the name that the module has for it."""
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(answer)  # noqa: SLF001
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    keys = [re.sub(r"\W+", "_", torch.utils._pytree.keystr(path)).strip("_") for path, _ in tensors]  # noqa: SLF001
    names: list[str] = []
    for key in keys:
        wanted = f"output_{key}" if key.isdigit() else key or "output"
        names.append(wanted if wanted not in names else f"{wanted}_{len(names)}")
    return names, [tensor for _, tensor in tensors]
