"""Functions of one column each that are constant between steps, summed by one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.frameworks.ensemble import Ensemble, Transform
from edgetool.frameworks.parts import Graph

__all__ = ["Stairs"]

_FAR = float(np.finfo(np.float32).max) / 4
_MOST_STEPS = 1 << 19
"""A step takes about 50 bytes of the model, and as many in memory once more."""


class Stairs:
    """A sum of step functions, one tree for each.

    Args:
        what: is named where it becomes too large.
        before: what stands before it, and is taken in.
    """

    def __init__(self, what: str, before: Transform | None) -> None:
        self._what = what
        self._before = before
        self._ensemble = Ensemble()
        self._steps = 0
        self._middle = 0.0

    def add(
        self,
        column: int,
        function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        places: NDArray[np.float64],
    ) -> None:
        """Add the function of a column.

        Args:
            column: its number.
            function: of values, as the framework computes it.
            places: where it may step; it is asked on both sides, so a rounding of them does no harm.

        Raises:
            ConversionError: the functions have more steps than a model should hold.
        """
        # What a transform gives is float64, and readings are float32.
        kind: Any = np.float32 if self._before is None else np.float64
        with np.errstate(over="ignore"):
            near = np.unique(np.asarray(places, dtype=np.float64).astype(kind))
        down, up = kind(-np.inf), kind(np.inf)
        lower = np.nextafter(near, down)
        limits = np.unique(np.concatenate([np.nextafter(lower, down), lower, near, np.nextafter(near, up)]))
        limits = limits[np.isfinite(limits)]
        # The value in the middle between two limits, because a place may be off by more than one number of float64.
        ends = np.concatenate([[-_FAR], limits, [_FAR]]).astype(kind)
        middles = ends[:-1] + (ends[1:] - ends[:-1]) / 2
        asked = np.where(middles > ends[:-1], middles, ends[1:]).astype(np.float64)
        values = function(asked)
        is_step = values[1:] != values[:-1]
        limits, values = limits[is_step], np.append(values[:-1][is_step], values[-1])
        self._steps += len(limits)
        if self._steps > _MOST_STEPS:
            raise ConversionError(
                f"PyOD's {self._what}: its answer has a step at each value of the training, more than {_MOST_STEPS} in "
                "all; train it on fewer rows"
            )
        middle = float(values.mean())
        self._middle += middle
        self._add_tree(column, limits, values - middle)

    def append(self, graph: Graph, source: str) -> str:
        """The sum for each row, (n,)."""
        if self._before is not None:
            self._ensemble.take_before(self._before, casts=False)
        total = graph.reshape(self._ensemble.append(graph, source), -1)
        return graph.plus(total, np.float32(self._middle))

    def _add_tree(self, column: int, limits: NDArray[Any], values: NDArray[np.float64]) -> None:
        """A balanced tree: its inner nodes ask for the limits, its leaves have the values."""
        left, right, threshold, weight = [-1], [-1], [0.0], [0.0]
        waiting = [(0, 0, len(limits))]
        while waiting:
            node, first, last = waiting.pop()
            if first == last:
                weight[node] = float(values[first])
                continue
            middle = (first + last) // 2
            threshold[node] = float(limits[middle])
            left[node], right[node] = len(left), len(left) + 1
            for each in (left, right):
                each += [-1, -1]
            threshold += [0.0, 0.0]
            weight += [0.0, 0.0]
            waiting += [(left[node], first, middle), (right[node], middle + 1, last)]
        self._ensemble.add(
            left=np.array(left),
            right=np.array(right),
            feature=np.full(len(left), column),
            threshold=np.array(threshold),
            missing_left=np.zeros(len(left), dtype=bool),
            weights=np.array(weight),
        )
