"""Layers that are neither convolutions nor recurrent: dense, normalization, shapes, sums, attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetool.frameworks.keras.activations import activated
from edgetool.frameworks.keras.tensors import Shape, Tensor, channels_first, channels_last, known, moved
from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = [
    "attention",
    "batch_normalization",
    "concatenate",
    "cropped",
    "dense",
    "heads",
    "layer_normalization",
    "merged",
    "normalization",
    "padded",
    "permuted",
    "repeated",
    "rescaled",
    "reshaped",
    "upsampled",
]

_MERGES = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Average": "Mean",
    "Maximum": "Max",
    "Minimum": "Min",
}


def dense(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """A dense layer along the last axis."""
    made = graph.add("MatMul", channels_last(graph, tensor).name, graph.constant(np.asarray(layer.kernel)))
    if layer.bias is not None:
        made = graph.plus(made, np.asarray(layer.bias))
    return activated(graph, layer.activation, Tensor(made, (*tensor.shape[:-1], int(layer.units))))


def batch_normalization(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """As a factor and a summand for each channel."""
    if layer.axis not in (-1, len(tensor.shape)):
        raise NotConvertedError("BatchNormalization along another axis than the last")
    mean, variance = (np.asarray(each, dtype=np.float64) for each in (layer.moving_mean, layer.moving_variance))
    factor = 1 / np.sqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        factor = factor * np.asarray(layer.gamma, dtype=np.float64)
    summand = np.zeros_like(mean) if layer.beta is None else np.asarray(layer.beta, dtype=np.float64)
    summand = summand - mean * factor
    shape = (-1, *[1] * (len(tensor.shape) - 1)) if tensor.is_channels_first else (-1,)
    made = graph.times(tensor.name, factor.reshape(shape).astype(np.float32))
    return moved(tensor, graph.plus(made, summand.reshape(shape)))


def layer_normalization(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Along the last axis."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [len(tensor.shape)]) or getattr(layer, "rms_scaling", False):
        raise NotConvertedError("LayerNormalization along another axis than the last, or without its mean")
    width = int(tensor.shape[-1] or 0)
    scale = np.ones(width) if layer.gamma is None else np.asarray(layer.gamma)
    offset = np.zeros(width) if layer.beta is None else np.asarray(layer.beta)
    source = channels_last(graph, tensor)
    inputs = [source.name, graph.constant(scale), graph.constant(offset)]
    return moved(source, graph.add("LayerNormalization", *inputs, axis=-1, epsilon=float(layer.epsilon)))


def normalization(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """The layer that has learnt mean and spread of the data; the mean first, so that digits are kept."""
    source = channels_last(graph, tensor)
    mean, variance = np.asarray(layer.mean, dtype=np.float64), np.asarray(layer.variance, dtype=np.float64)
    spread = np.maximum(np.sqrt(variance), 1e-7)
    if layer.invert:
        return moved(source, graph.plus(graph.times(source.name, spread), mean))
    return moved(source, graph.times(graph.minus(source.name, mean), 1 / spread))


def rescaled(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Rescaling."""
    source = channels_last(graph, tensor)
    made = graph.times(source.name, np.asarray(layer.scale, dtype=np.float32))
    return moved(source, graph.plus(made, np.asarray(layer.offset, dtype=np.float32)))


def reshaped(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Reshape and Flatten."""
    source = channels_last(graph, tensor)
    shape = known(tuple(layer.compute_output_shape((None, *tensor.shape)))[1:])
    return Tensor(graph.reshape(source.name, -1, *shape), shape)


def permuted(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Permute, whose axes count from one."""
    source, axes = channels_last(graph, tensor), [int(axis) for axis in layer.dims]
    shape = tuple(tensor.shape[axis - 1] for axis in axes)
    return Tensor(graph.add("Transpose", source.name, perm=[0, *axes]), shape)


def repeated(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """RepeatVector."""
    (width,) = known(tensor.shape)
    times = graph.constant([1, int(layer.n), 1], np.int64)
    made = graph.add("Expand", graph.reshape(tensor.name, -1, 1, width), times)
    return Tensor(made, (int(layer.n), width))


def upsampled(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """UpSampling1D: each row several times."""
    source, times = channels_last(graph, tensor), int(layer.size)
    steps, width = tensor.shape
    apart = graph.reshape(source.name, 0, -1, 1, int(width or 0))
    many = graph.add("Expand", apart, graph.constant([1, 1, times, 1], np.int64))
    shape: Shape = (None if steps is None else steps * times, width)
    return Tensor(graph.reshape(many, 0, -1, int(width or 0)), shape)


def padded(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """ZeroPadding1D."""
    before, behind = (int(count) for count in layer.padding)
    steps, width = tensor.shape
    pads = graph.constant([0, before, 0, 0, behind, 0], np.int64)
    shape: Shape = (None if steps is None else steps + before + behind, width)
    return Tensor(graph.add("Pad", channels_last(graph, tensor).name, pads), shape)


def cropped(graph: Graph, layer: Any, tensor: Tensor) -> Tensor:
    """Cropping1D."""
    first, behind = (int(count) for count in layer.cropping)
    steps, width = known(tensor.shape)
    places = [graph.constant([value], np.int64) for value in (first, steps - behind, 1)]
    made = graph.add("Slice", channels_last(graph, tensor).name, *places)
    return Tensor(made, (steps - first - behind, width))


def merged(graph: Graph, layer: Any, tensors: list[Tensor]) -> Tensor:
    """Add, Subtract, Multiply, Average, Maximum and Minimum of tensors."""
    place = channels_first if all(tensor.is_channels_first for tensor in tensors) else channels_last
    given = [place(graph, tensor) for tensor in tensors]
    if len({len(tensor.shape) for tensor in given}) > 1:
        raise NotConvertedError(f"{type(layer).__name__} of tensors of several ranks")
    operator = _MERGES[type(layer).__name__]
    name = given[0].name
    if operator == "Mean":
        name = graph.add(operator, *(tensor.name for tensor in given))
    else:
        for tensor in given[1:]:
            name = graph.add(operator, name, tensor.name)
    return Tensor(name, _broadcast([tensor.shape for tensor in given]), given[0].is_channels_first)


def _broadcast(shapes: list[Shape]) -> Shape:
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True))


def concatenate(graph: Graph, layer: Any, tensors: list[Tensor]) -> Tensor:
    """Tensors one behind the other."""
    given, rank = [channels_last(graph, tensor) for tensor in tensors], len(tensors[0].shape) + 1
    axis = int(layer.axis) % rank
    if axis == 0:
        raise NotConvertedError("Concatenate along the batch")
    sizes = [tensor.shape[axis - 1] for tensor in given]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    shape = (*given[0].shape[: axis - 1], total, *given[0].shape[axis:])
    return Tensor(graph.add("Concat", *(tensor.name for tensor in given), axis=axis), shape)


def heads(graph: Graph, layer: Any, tensors: list[Tensor], *, is_causal: bool) -> Tensor:
    """MultiHeadAttention over the one axis of time.

    Args:
        graph: gets its nodes.
        layer: of Keras.
        tensors: query, value, and the key where it is another one than the value.
        is_causal: no row sees one behind it.
    """
    query, value = (channels_last(graph, tensor) for tensor in tensors[:2])
    key = channels_last(graph, tensors[2]) if len(tensors) > 2 else value
    if len(query.shape) != 2 or len(value.shape) != 2:
        raise NotConvertedError("MultiHeadAttention over several axes")

    def projected(source: Tensor, part: Any, *order: int) -> str:
        """(batch, time, width) becomes (batch, time, heads, size), and these in another order."""
        kernel = np.asarray(part.kernel)
        made = graph.add("MatMul", source.name, graph.constant(kernel.reshape(kernel.shape[0], -1)))
        if part.bias is not None:
            made = graph.plus(made, np.asarray(part.bias).reshape(-1))
        return graph.add("Transpose", graph.reshape(made, 0, -1, *kernel.shape[1:]), perm=[0, *order])

    # Keras shows the weights of the projections by these names only.
    asked = graph.times(projected(query, layer._query_dense, 2, 1, 3), np.float32(1 / np.sqrt(layer.key_dim)))
    keys, values = projected(key, layer._key_dense, 2, 3, 1), projected(value, layer._value_dense, 2, 1, 3)
    made = _attended(graph, asked, keys, values, (query.shape[0], value.shape[0]) if is_causal else None)
    kernel, bias = np.asarray(layer._output_dense.kernel), layer._output_dense.bias
    joined = graph.reshape(graph.add("Transpose", made, perm=[0, 2, 1, 3]), 0, -1, kernel.shape[0] * kernel.shape[1])
    made = graph.add("MatMul", joined, graph.constant(kernel.reshape(-1, kernel.shape[-1])))
    if bias is not None:
        made = graph.plus(made, np.asarray(bias))
    return Tensor(made, (query.shape[0], int(kernel.shape[-1])))


def attention(graph: Graph, layer: Any, tensors: list[Tensor], *, is_causal: bool) -> Tensor:
    """Attention by products, with or without a factor that was learnt."""
    if layer.score_mode != "dot":
        raise NotConvertedError(f"Attention with score_mode={layer.score_mode!r}")
    query, value = (channels_last(graph, tensor) for tensor in tensors[:2])
    key = channels_last(graph, tensors[2]) if len(tensors) > 2 else value
    asked = query.name if layer.scale is None else graph.times(query.name, np.asarray(layer.scale))
    turned = graph.add("Transpose", key.name, perm=[0, 2, 1])
    made = _attended(graph, asked, turned, value.name, (query.shape[0], value.shape[0]) if is_causal else None)
    return Tensor(made, (query.shape[0], value.shape[-1]))


def _attended(
    graph: Graph, query: str, turned_key: str, value: str, steps: tuple[int | None, int | None] | None
) -> str:
    """The values, weighted by how well their keys fit the query.

    Args:
        graph: gets its nodes.
        query: (…, time, size).
        turned_key: (…, size, time).
        value: (…, time, size).
        steps: rows of query and key where no row may see one behind it; None where all may.
    """
    scores = graph.add("MatMul", query, turned_key)
    if steps is not None:
        asked, given = known(steps)
        scores = graph.plus(scores, np.triu(np.full((asked, given), -1e9, dtype=np.float32), 1))
    return graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
