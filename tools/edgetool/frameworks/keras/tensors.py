"""A tensor on its way through the layers, with its shape, and where its channels are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgetool.frameworks.made import NotConvertedError
from edgetool.frameworks.parts import Graph

__all__ = ["Shape", "Tensor", "channels_first", "channels_last", "known", "moved"]

Shape = tuple[int | None, ...]
"""Without the batch; None where a size is open."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a layer gives."""

    name: str
    shape: Shape
    """As Keras has it: channels last."""
    is_channels_first: bool = False
    """In the model they are first behind the batch, as ONNX has them, so that convolutions follow each other."""


def channels_first(graph: Graph, tensor: Tensor) -> Tensor:
    """As ONNX's convolutions take it."""
    rank = len(tensor.shape) + 1
    if tensor.is_channels_first:
        return tensor
    return Tensor(graph.add("Transpose", tensor.name, perm=[0, rank - 1, *range(1, rank - 1)]), tensor.shape, True)


def channels_last(graph: Graph, tensor: Tensor) -> Tensor:
    """As Keras has it."""
    rank = len(tensor.shape) + 1
    if not tensor.is_channels_first:
        return tensor
    return Tensor(graph.add("Transpose", tensor.name, perm=[0, *range(2, rank), 1]), tensor.shape)


def moved(tensor: Tensor, name: str) -> Tensor:
    """Another tensor of the same shape, with its channels at the same place."""
    return replace(tensor, name=name)


def known(shape: Shape) -> tuple[int, ...]:
    """A shape in which nothing is open.

    Raises:
        NotConvertedError: something is.
    """
    if None in shape:
        raise NotConvertedError("a layer that needs the length of the window, which the model leaves open")
    return tuple(size for size in shape if size is not None)
