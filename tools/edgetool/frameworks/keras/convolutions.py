"""Convolutions, their transposes and pooling, in any number of dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.keras.activations import activated
from edgetool.frameworks.keras.tensors import Shape, Tensor, channels_first, channels_last, known
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["convolution", "depthwise", "global_pool", "pool", "separable", "transposed"]

Kernel = NDArray[np.float32]


def _check(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        # On a CPU TensorFlow has no answer for most of these, so there is nothing to compare with.
        raise NotConvertedError(f"{type(layer).__name__} with data_format='channels_first'")


def _after(layer: Any, shape: Shape) -> Shape:
    return tuple(layer.compute_output_shape((None, *shape)))[1:]


def _pads(layer: Any, shape: Shape, spans: list[int], strides: tuple[int, ...]) -> list[int]:
    """What is added before and behind each dimension: TensorFlow's way, in which `same` depends on the stride.

    Args:
        layer: with its `padding`.
        shape: of what it is given.
        spans: values that the kernel reaches over, with its gaps.
        strides: of the kernel.
    """
    if layer.padding == "valid":
        return [0] * 2 * len(spans)
    if layer.padding == "causal":
        return [spans[0] - 1, 0]
    before, behind = [], []
    for size, span, stride in zip(shape, spans, strides, strict=False):
        if size is None and stride != 1:
            raise NotConvertedError("padding='same' with a stride, in a window of open length")
        steps = 1 if size is None else -(-size // stride)
        total = max((steps - 1) * stride + span - (1 if size is None else size), 0)
        before.append(total // 2)
        behind.append(total - total // 2)
    return before + behind


def convolution(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Conv1D, Conv2D and Conv3D."""
    _check(layer)
    # (size, …, in, out) becomes (out, in, size, …).
    kernel = np.moveaxis(np.asarray(layer.kernel), (-1, -2), (0, 1))
    made = _convolved(graph, layer, tensor, kernel, groups=int(layer.groups), bias=_bias(layer))
    return activated(graph, layer.activation, made)


def _bias(layer: Any) -> Kernel | None:
    return None if layer.bias is None else np.asarray(layer.bias)


def _convolved(graph: Graph, layer: Any, tensor: Tensor, kernel: Kernel, *, groups: int, bias: Kernel | None) -> Tensor:
    source, sizes = channels_first(graph, tensor), kernel.shape[2:]
    strides, gaps = _each(layer.strides, len(sizes)), _each(layer.dilation_rate, len(sizes))
    spans = [(size - 1) * gap + 1 for size, gap in zip(sizes, gaps, strict=True)]
    inputs = [source.name, graph.constant(np.ascontiguousarray(kernel))]
    if bias is not None:
        inputs.append(graph.constant(bias))
    name = graph.add(
        "Conv",
        *inputs,
        group=groups,
        strides=list(strides),
        dilations=list(gaps),
        pads=_pads(layer, tensor.shape, spans, strides),
    )
    return Tensor(name, _after(layer, tensor.shape), is_channels_first=True)


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (int(value),) * count if isinstance(value, int) else tuple(int(each) for each in value)


def _by_channel(kernel: Kernel) -> Kernel:
    """(size, …, in, times) becomes (in * times, 1, size, …)."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(-1, 1, *kernel.shape[:-2])


def depthwise(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """DepthwiseConv1D and DepthwiseConv2D."""
    _check(layer)
    kernel = np.asarray(layer.kernel)
    made = _convolved(graph, layer, tensor, _by_channel(kernel), groups=kernel.shape[-2], bias=_bias(layer))
    return activated(graph, layer.activation, made)


def separable(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """SeparableConv1D and SeparableConv2D."""
    _check(layer)
    first, second = np.asarray(layer.depthwise_kernel), np.asarray(layer.pointwise_kernel)
    middle = _convolved(graph, layer, tensor, _by_channel(first), groups=first.shape[-2], bias=None)
    inputs = [middle.name, graph.constant(np.ascontiguousarray(np.moveaxis(second, (-1, -2), (0, 1))))]
    if layer.bias is not None:
        inputs.append(graph.constant(np.asarray(layer.bias)))
    return activated(graph, layer.activation, Tensor(graph.add("Conv", *inputs), middle.shape, is_channels_first=True))


def transposed(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Conv1DTranspose and its like."""
    _check(layer)
    # (size, …, out, in) becomes (in, out, size, …).
    kernel = np.moveaxis(np.asarray(layer.kernel), (-1, -2), (0, 1))
    sizes = kernel.shape[2:]
    strides, gaps = _each(layer.strides, len(sizes)), _each(layer.dilation_rate, len(sizes))
    if layer.output_padding is not None or any(gap != 1 for gap in gaps):
        raise NotConvertedError(f"{type(layer).__name__} with output_padding or dilation_rate")
    more = [size - stride for size, stride in zip(sizes, strides, strict=True)]
    is_same = layer.padding == "same"
    before = [max(each, 0) // 2 if is_same else 0 for each in more]
    behind = [max(each, 0) - max(each, 0) // 2 if is_same else 0 for each in more]
    inputs = [channels_first(graph, tensor).name, graph.constant(np.ascontiguousarray(kernel))]
    if layer.bias is not None:
        inputs.append(graph.constant(np.asarray(layer.bias)))
    name = graph.add(
        "ConvTranspose",
        *inputs,
        strides=list(strides),
        pads=before + behind,
        # A kernel that is smaller than its stride leaves values that nothing reaches.
        output_padding=[max(-each, 0) for each in more],
    )
    made = Tensor(name, _after(layer, tensor.shape), is_channels_first=True)
    return activated(graph, layer.activation, made)


def pool(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """MaxPooling and AveragePooling; the mean is of the values that are there."""
    _check(layer)
    rank = len(tensor.shape) - 1
    sizes, strides = _each(layer.pool_size, rank), _each(layer.strides, rank)
    name = graph.add(
        "MaxPool" if type(layer).__name__.startswith("Max") else "AveragePool",
        channels_first(graph, tensor).name,
        kernel_shape=list(sizes),
        strides=list(strides),
        pads=_pads(layer, tensor.shape, list(sizes), strides),
    )
    return Tensor(name, _after(layer, tensor.shape), is_channels_first=True)


def global_pool(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """GlobalAveragePooling and GlobalMaxPooling."""
    _check(layer)
    operator = "GlobalMaxPool" if "Max" in type(layer).__name__ else "GlobalAveragePool"
    pooled = Tensor(graph.add(operator, channels_first(graph, tensor).name), tensor.shape, is_channels_first=True)
    made = channels_last(graph, pooled)
    shape = _after(layer, tensor.shape)
    # What kept its dimensions has a size of one in each.
    return Tensor(graph.reshape(made.name, -1, *known(shape)), shape)
