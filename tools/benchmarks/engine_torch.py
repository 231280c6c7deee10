"""An ONNX file in PyTorch: the operators of our example detectors, each by the function that one would write for it.

Runs in the environment of PyTorch, which has none of our packages. The usual converter, onnx2torch 1.5.15, knows
neither LSTM nor Gelu, and imports torchvision, which does not load beside a PyTorch for the processor alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  # PyTorch's own name of it
from onnx import helper, numpy_helper

__all__ = ["exported", "module_of"]

_Values = dict[str, Any]


def module_of(path: Path) -> torch.nn.Module:
    """The model as a module of one input, with the outputs in the file's order.

    Args:
        path: a model whose batch is a number, and in which no shape is computed any more.

    Raises:
        ValueError: the model has an operator that is not here.
    """
    graph = onnx.load(path).graph
    missing = sorted({node.op_type for node in graph.node} - _OPERATORS.keys())
    if missing:
        raise ValueError(f"no PyTorch form of {', '.join(missing)}")
    return _Model(graph).eval()


def exported(path: Path) -> Any:
    """The model as `torch.export` gives it: straight-line code, without anything of this module.

    Raises:
        ValueError: the model has an operator that is not here.
    """
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    return torch.export.export(module_of(path), (torch.zeros([dim.dim_value for dim in dims]),), strict=False)


class _Model(torch.nn.Module):  # type: ignore[misc]  # not installed where types are checked
    """Runs the nodes in order, for `torch.export` to look at."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self._nodes = [(node, _attributes(node)) for node in graph.node]
        self._input = graph.input[0].name
        self._outputs = [output.name for output in graph.output]
        self._plain: _Values = {}
        """Whole numbers: shapes, axes and places."""
        self._weights: dict[str, str] = {}
        for number, tensor in enumerate(graph.initializer):
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "i":
                self._plain[tensor.name] = array.tolist()
            else:
                self._weights[tensor.name] = f"w{number}"
                self.register_buffer(f"w{number}", torch.from_numpy(array.copy()))

    def forward(self, readings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, for readings of the batch that the file says."""
        values: _Values = {self._input: readings, "": None, **self._plain}
        values.update({name: getattr(self, own) for name, own in self._weights.items()})
        for node, attributes in self._nodes:
            made = _OPERATORS[node.op_type](*(values[name] for name in node.input), **attributes)
            values.update(zip(node.output, made if isinstance(made, tuple) else (made,), strict=False))
        return tuple(values[name] for name in self._outputs)


def _attributes(node: Any) -> _Values:
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _refuse(operator: str, **unexpected: Any) -> None:
    """What an operator may say and our models do not: a model that says it must not be converted wrongly."""
    said = {name: value for name, value in unexpected.items() if value}
    if said:
        raise ValueError(f"no PyTorch form of {operator} with {', '.join(f'{n}={v!r}' for n, v in said.items())}")


# The names of attributes are ONNX's own.
def _gemm(a: Any, b: Any, c: Any = None, **own: Any) -> Any:
    _refuse("Gemm", transA=own.get("transA"), alpha=own.get("alpha", 1.0) - 1.0, beta=own.get("beta", 1.0) - 1.0)
    return F.linear(a, b if own.get("transB") else b.T, c)


def _convolution(x: Any, weight: Any, bias: Any = None, **own: Any) -> Any:
    pads, rank = own.get("pads") or [0] * (2 * (x.dim() - 2)), x.dim() - 2
    _refuse("Conv", rank=rank - 1, unequal_pads=pads[:rank] != pads[rank:], auto_pad=own.get("auto_pad", "") == "SAME")
    return F.conv1d(
        x, weight, bias, own.get("strides") or 1, pads[:rank], own.get("dilations") or 1, own.get("group", 1)
    )


def _transposed_convolution(x: Any, weight: Any, bias: Any = None, **own: Any) -> Any:
    pads, rank = own.get("pads") or [0] * (2 * (x.dim() - 2)), x.dim() - 2
    _refuse("ConvTranspose", rank=rank - 1, unequal_pads=pads[:rank] != pads[rank:], shape=own.get("output_shape"))
    more = own.get("output_padding") or 0
    steps, wide = own.get("strides") or 1, own.get("dilations") or 1
    return F.conv_transpose1d(x, weight, bias, steps, pads[:rank], more, own.get("group", 1), wide)


def _lstm(x: Any, w: Any, r: Any, *rest: Any, hidden_size: int, **own: Any) -> Any:
    bias, lengths, first, cell = (*rest, *[None] * (4 - len(rest)))[:4]
    direction = own.get("direction", "forward")
    _refuse("LSTM", direction=direction != "forward", lengths=lengths is not None, layout=own.get("layout"))
    zeros = x.new_zeros(1, x.shape[1], hidden_size)
    weights = [_gates(part[0], hidden_size) for part in (w, r)]
    if bias is not None:
        weights += [_gates(part, hidden_size) for part in bias[0].split(4 * hidden_size)]
    states = (zeros if first is None else first, zeros if cell is None else cell)
    answers, hidden, last = torch.lstm(
        x, states, weights, bias is not None, 1, 0.0, train=False, bidirectional=False, batch_first=False
    )
    return answers.unsqueeze(1), hidden, last


def _gates(part: Any, size: int) -> Any:
    """ONNX has the gates in the order input, output, forget, cell; PyTorch input, forget, cell, output."""
    i, o, f, c = part.split(size)
    return torch.cat([i, f, c, o])


def _gather(x: Any, places: Any, *, axis: int = 0) -> Any:
    if isinstance(places, int):
        return x.select(axis, places)
    return x.index_select(axis, torch.tensor(places))


def _squeeze(x: Any, places: Any = None, *, axes: Any = None) -> Any:
    return x.squeeze(places or axes)


def _unsqueeze(x: Any, places: Any = None, *, axes: Any = None) -> Any:
    for axis in sorted(places or axes):
        x = x.unsqueeze(axis)
    return x


def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    _refuse("Slice", steps=any(step != 1 for step in steps or []))
    for axis, start, end in zip(axes or range(len(starts)), starts, ends, strict=True):
        x = x.narrow(axis, start % x.shape[axis], len(range(x.shape[axis])[start:end]))
    return x


def _reduce(how: str) -> Callable[..., Any]:
    def reduced(x: Any, places: Any = None, *, axes: Any = None, keepdims: int = 1, **own: Any) -> Any:
        _refuse(how, noop_with_empty_axes=own.get("noop_with_empty_axes"))
        return getattr(x, how)(places or axes or list(range(x.dim())), keepdim=bool(keepdims))

    return reduced


def _normalised(x: Any, scale: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5, **_own: Any) -> Any:
    return F.layer_norm(x, x.shape[axis % x.dim() :], scale, bias, epsilon)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": lambda a, b: a + b,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Div": lambda a, b: a / b,
    "Gather": _gather,
    "Gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": _gemm,
    "Identity": lambda x: x,
    "LSTM": _lstm,
    "LayerNormalization": _normalised,
    "MatMul": torch.matmul,
    "Mul": lambda a, b: a * b,
    "Neg": torch.neg,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "Relu": F.relu,
    "Reshape": lambda x, shape, **own: x.reshape(
        [x.shape[at] if size == 0 and not own.get("allowzero") else size for at, size in enumerate(shape)]
    ),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, axis=-1: F.softmax(x, axis),
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": lambda a, b: a - b,
    "Tanh": torch.tanh,
    "Tile": lambda x, times: x.repeat(times),
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
}
