"""What the converters of all families are made of: differences that keep their digits, and distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetool.frameworks.made import NotConvertedError
from edgetool.graph.nodes import Nodes

__all__ = ["Graph", "Transformed"]

_DIRECT_VALUES = 4096
"""Of differences for one row; more go through a product of matrices."""


class Graph:
    """Nodes of one model, each under a name of its own.

    Args:
        nodes: of the model.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._numbers = count()

    def name(self, what: str) -> str:
        """A new name."""
        return f"{what}_{next(self._numbers)}"

    def constant(self, values: ArrayLike, dtype: Any = np.float32) -> str:
        """A constant; gives back its name.

        Raises:
            NotConvertedError: the type does not hold it.
        """
        with np.errstate(over="ignore"):
            held = np.asarray(values).astype(dtype)
        if np.isinf(held).any() and np.isfinite(values).all():
            raise NotConvertedError("numbers that float32 does not hold")
        return self.nodes.constant(self.name("c"), held, dtype)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; gives back its name."""
        return self.nodes.add(operator, [*inputs], self.name(operator.lower()), **attributes)

    def reshape(self, source: str, *shape: int) -> str:
        """Other sizes of the same values."""
        return self.nodes.reshape(source, self.name("reshape"), [*shape])

    def reduce(self, operator: str, source: str, *, axis: int, keep: bool = False) -> str:
        """One value in place of an axis."""
        return self.nodes.reduce(operator, source, self.name(operator.lower()), axis=axis, keep=keep)

    def minus(self, source: str, offset: NDArray[np.float64]) -> str:
        """The values less an offset that float32 does not hold.

        A pressure around 101325 has steps of 0.008 in float32. The difference of two such numbers is exact, so the
        offset is taken off in two pieces: rounded, and what the rounding has left.
        """
        coarse = np.asarray(offset, dtype=np.float32)
        rest = np.asarray(np.asarray(offset, dtype=np.float64) - coarse, dtype=np.float32)
        found = self.add("Sub", source, self.constant(coarse))
        return self.add("Sub", found, self.constant(rest)) if rest.any() else found

    def times(self, source: str, factor: ArrayLike) -> str:
        """The values times a factor."""
        return self.add("Mul", source, self.constant(factor))

    def plus(self, source: str, summand: ArrayLike) -> str:
        """The values plus a number."""
        return self.add("Add", source, self.constant(summand))

    def squared_distances(self, source: str, points: NDArray[np.float64]) -> str:
        """Squared Euclidean distances from rows to points: (n, points).

        Args:
            source: (n, width).
            points: shape (points, width).
        """
        centre = points.mean(axis=0)
        at, around = self.minus(source, centre), np.asarray(points - centre, dtype=np.float32)
        if around.size <= _DIRECT_VALUES:
            away = self.add("Sub", self.reshape(at, -1, 1, points.shape[1]), self.constant(around))
            return self.reduce("ReduceSum", self.add("Mul", away, away), axis=2)
        own = self.reduce("ReduceSum", self.add("Mul", at, at), axis=1, keep=True)
        product = self.add("MatMul", self.times(at, np.float32(-2)), self.constant(np.ascontiguousarray(around.T)))
        sizes = (around.astype(np.float64) ** 2).sum(axis=1)[np.newaxis]
        return self.add("Relu", self.add("Add", self.plus(product, sizes), own))

    def smallest(self, source: str, count: int) -> tuple[str, str]:
        """The smallest values of each row, in order, and their places: (n, count) each."""
        values, places = self.name("least"), self.name("places")
        self.nodes.add_node("TopK", [source, self.constant([count], np.int64)], [values, places], axis=1, largest=0)
        return values, places

    def log_sum_exp(self, source: str) -> str:
        """The logarithm of the sum of the exponentials of each row: (n, k) becomes (n,)."""
        most = self.reduce("ReduceMax", source, axis=1, keep=True)
        shifted = self.add("Exp", self.add("Sub", source, most))
        total = self.add("Log", self.reduce("ReduceSum", shifted, axis=1, keep=True))
        return self.reshape(self.add("Add", total, most), -1)


@dataclass(frozen=True, slots=True)
class Transformed:
    """What a transformer makes of its rows."""

    tensor: str
    width: int
    back: Callable[[str], str] | None
    """Appends the way back to the rows that it was given; None if there is none."""
