"""Appends nodes and constants to a graph, each under a name of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from edgetool.graph.walks import opset_of

__all__ = ["Nodes"]

_REDUCE_AXES_ARE_INPUT = 18
"""From this opset on; ReduceSum has them since 13."""


class Nodes:
    """Nodes in the order in which they were added, for the begin or the end of a model's graph.

    Args:
        model: gets the constants at once; the nodes, when the caller puts them there.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._opset = opset_of(model)
        self.made: list[onnx.NodeProto] = []
        """The nodes."""

    def constant(self, name: str, values: ArrayLike, dtype: Any = np.float32) -> str:
        """A constant; gives back its name."""
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node with one output; gives back its name."""
        self.made.append(helper.make_node(operator, inputs, [output], f"{output}_node", **attributes))
        return output

    def add_node(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """A node with several outputs."""
        self.made.append(helper.make_node(operator, inputs, outputs, f"{outputs[0]}_node", **attributes))

    def reshape(self, source: str, output: str, shape: list[int]) -> str:
        """Other sizes of the same values."""
        return self.add("Reshape", [source, self.constant(f"{output}_shape", shape, np.int64)], output)

    def rows(self, source: str, output: str, start: int, end: int) -> str:
        """Some rows of windows (n, rows, channels)."""
        places = [
            self.constant(f"{output}_{name}", [value], np.int64)
            for name, value in (("start", start), ("end", end), ("axis", 1))
        ]
        return self.add("Slice", [source, *places], output)

    def gather(self, source: str, output: str, places: ArrayLike, *, axis: int) -> str:
        """The values at some places of an axis."""
        return self.add("Gather", [source, self.constant(f"{output}_places", places, np.int64)], output, axis=axis)

    def reduce(self, operator: str, source: str, output: str, *, axis: int, keep: bool = False) -> str:
        """One value in place of an axis, which stays with a size of one where it is kept."""
        if self._opset >= _REDUCE_AXES_ARE_INPUT or operator == "ReduceSum":
            axes = self.constant(f"{output}_axes", [axis], np.int64)
            return self.add(operator, [source, axes], output, keepdims=int(keep))
        return self.add(operator, [source], output, axes=[axis], keepdims=int(keep))
