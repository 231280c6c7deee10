"""PyTorch's own exporters, for a batch of any size, and what is done around them."""

from __future__ import annotations

import io
import re
from typing import Any

import onnx

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.made import BATCH
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.pytorch.called import Called, tensors_of
from edgetool.graph.batch import free_batch
from edgetool.graph.edits import copy_of

__all__ = ["by_exporter", "by_script", "flat", "opened", "traced"]

_OPSET, _SCRIPT_OPSET = 18, 17
"""For programs, the lowest that the exporter makes without leaving it to a converter of versions; for TorchScript, the
highest that its exporter was finished for. All runtimes here read both.
"""
_TRACED = "sizes must come from the input's shape, such as x.shape[0], and no branch may depend on values"
_TENSORS_ALONE = "forward has to take tensors, one for each --shape, and no dictionary or list of them"
_LARGEST_BYTES = (1 << 31) - (1 << 20)


def traced(torch: Any, module: Any, called: Called, what: str, open_time: int | None) -> Any:
    """A program of a module, with an open batch."""
    batch = torch.export.Dim(BATCH, min=1)
    sizes: list[dict[int, Any]] = [{item.shape.axis: batch} for item in called.inputs]
    if open_time is not None:
        sizes[0][open_time] = torch.export.Dim("time", min=2)
    try:
        return torch.export.export(module, tuple(tensors_of(torch, called.inputs)), dynamic_shapes=tuple(sizes))
    # It runs the user's code, and raises classes of many modules.
    except Exception as exc:
        advice = _TENSORS_ALONE if isinstance(exc, (TypeError, KeyError)) else _TRACED
        raise ConversionError(
            f"{what}: cannot be traced for batches of any size ({one_line(exc)}); {called.advice(what) or advice}"
        ) from exc


def opened(torch: Any, program: Any, called: Called, what: str, open_time: int | None) -> onnx.ModelProto:
    """A program that was saved for batches of one size, for any: traced again; or where a one is built into it, as into
    the first state of an LSTM, freed in the graph.
    """
    can_be_freed = called.fixed == 1 and open_time is None
    try:
        again = traced(torch, program.module(check_guards=False), called, what, open_time)
    except ConversionError:
        if not can_be_freed:
            raise
    else:
        model = by_exporter(torch, again, what)
        is_open = all(any(dim.dim_param for dim in value.type.tensor_type.shape.dim) for value in model.graph.output)
        if not can_be_freed or (is_open and not free_batch(copy_of(model), _named_axes(model, called))):
            return model
    model = by_exporter(torch, program, what)
    free_batch(model, _named_axes(model, called))
    return model


def _named_axes(model: onnx.ModelProto, called: Called) -> dict[str, int]:
    return {value.name: item.shape.axis for value, item in zip(model.graph.input, called.inputs, strict=True)}


def by_exporter(torch: Any, program: Any, what: str) -> onnx.ModelProto:
    """The model of a program, in its sizes.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    require("onnxscript", extra="torch")
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=_OPSET, external_data=False)
        return _whole(made.model_proto, what)
    except ConversionError:
        raise
    # It raises classes of many modules for what it cannot export.
    except Exception as exc:
        raise ConversionError(f"{what}: PyTorch {torch.__version__} cannot export it ({one_line(exc)})") from exc


def by_script(torch: Any, module: Any, called: Called, what: str, open_time: int | None) -> onnx.ModelProto:
    """By the exporter for TorchScript, since that for programs does not take it."""

    class Flat(torch.nn.Module):  # type: ignore[misc]
        """Gives tensors in place of the dictionary or tuple that they are in."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: Any) -> Any:
            _, found = flat(torch, self.inner(*tensors))
            return tuple(found)

    names = [item.name for item in called.inputs]
    axes = {item.name: {item.shape.axis: BATCH} for item in called.inputs}
    if open_time is not None:
        axes[names[0]][open_time] = "time"
    args = tuple(tensors_of(torch, called.inputs))
    file = io.BytesIO()
    try:
        script = torch.jit.trace(Flat().eval(), args, check_trace=False)
        torch.onnx.export(
            script, args, file, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=_SCRIPT_OPSET
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


def flat(torch: Any, answer: Any) -> tuple[list[str], list[Any]]:
    """The tensors of an answer, each with the name that the module has for it."""
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(answer)  # noqa: SLF001
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    keys = [re.sub(r"\W+", "_", torch.utils._pytree.keystr(path)).strip("_") for path, _ in tensors]  # noqa: SLF001
    names: list[str] = []
    for key in keys:
        wanted = f"output_{key}" if key.isdigit() else key or "output"
        names.append(wanted if wanted not in names else f"{wanted}_{len(names)}")
    return names, [tensor for _, tensor in tensors]
