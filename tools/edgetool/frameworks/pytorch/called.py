"""What is called with tensors and gives tensors: a program of PyTorch, a module, or TorchScript."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_agent.errors import ConversionError, UsageError
from edgetool.frameworks.shapes import Shape

__all__ = ["ITEMS", "Called", "Input", "called_module", "called_program", "names_of", "script_names", "tensors_of"]

ITEMS = 2
"""An exporter takes 0 and 1 for sizes that never change."""
_OPEN = (
    "save it for all sizes: torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim('batch')},)), "
    "with x of two items"
)


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that it takes."""

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
class Called:
    """What is called with tensors, and gives tensors."""

    run: Callable[[Sequence[Any]], Any]
    """With one tensor for each input."""
    inputs: tuple[Input, ...]
    fixed: int | None = None
    """The only size of a batch that it takes."""
    is_flat: bool = True
    """It takes each tensor by itself and by its place."""

    def advice(self, what: str) -> str:
        """What to do where it does not run in other batches; empty where it should."""
        return "" if self.fixed is None else f"{what} was saved for batches of {self.fixed} alone; {_OPEN}"


def called_program(torch: Any, program: Any, what: str, shapes: Sequence[Shape]) -> Called:
    """A `torch.export` program, which knows its own shapes.

    Raises:
        ConversionError: it takes something else than tensors.
        UsageError: a shape is given that is another one.
    """
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
        found.append(Input(name, shape, value.dtype, is_open=bool(places), open_axis=next(others, None)))
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
    return Called(run, tuple(found), fixed=None if found[0].is_open else int(size), is_flat=is_flat)


def _span(values: Any) -> tuple[int, int] | None:
    """The smallest and the largest of a tensor of integers; None of any other, and of an empty one."""
    if not hasattr(values, "dtype") or values.dtype.is_floating_point or values.dtype.is_complex or not values.numel():
        return None
    return int(values.min()), int(values.max())


def _hint(size: Any) -> int:
    """A size for an axis other than the batch's that is open."""
    hint = getattr(size.node, "hint", None)
    return int(hint) if hint else 8


def names_of(module: Any, what: str) -> list[str]:
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


def script_names(module: Any) -> list[str]:
    """Names of what TorchScript takes and has no default for."""
    arguments = list(module.forward.schema.arguments)[1:]
    return [each.name for each in arguments if not each.has_default_value()]


def called_module(torch: Any, module: Any, names: list[str], what: str, shapes: Sequence[Shape]) -> Called:
    """A module, of whose inputs the user says the shapes.

    Raises:
        UsageError: one is missing, or is of no input.
    """
    asked = _by_input(shapes, names, what)
    missing = [name for name in names if name not in asked]
    if missing:
        others = "".join(f", and --shape {name}:SIZES" for name in names[1:])
        raise UsageError(
            f"{what}: does not hold the shape of {', '.join(missing)}; say it, of one row or window without the batch: "
            f"{_example(module)}{others}"
        )
    inputs = tuple(Input(name, replace(asked[name], name=name), torch.float32, is_open=False) for name in names)
    return Called(lambda tensors: module(*tensors), inputs)


def _example(module: Any) -> str:
    """What a shape may be, by the first layer that knows how many channels it takes."""
    for layer in module.modules():
        weights = dict(layer.named_parameters(recurse=False))
        kind = getattr(layer, "original_name", type(layer).__name__)
        if kind == "Conv1d" and "weight" in weights:
            channels = getattr(layer, "in_channels", weights["weight"].shape[1])
            return f"--shape {channels}x60 for a window of 60 rows: its convolution takes the {channels} channels first"
        if kind in ("LSTM", "GRU", "RNN") and "weight_ih_l0" in weights:
            return f"--shape 60x{weights['weight_ih_l0'].shape[1]} for a window of 60 rows"
        if kind == "Linear" and "weight" in weights:
            channels = weights["weight"].shape[1]
            return f"--shape {channels} for a row or flat window of {channels}, --shape 60x{channels} for 60 rows"
    return "--shape 9 for a row of 9 channels, --shape 60x9 for a window of 60 rows, --shape 9x60 for channels first"


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


def tensors_of(torch: Any, inputs: Sequence[Input], count: int = ITEMS) -> list[Any]:
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
