"""Trees that are summed, as one operator.

Most frameworks go left where x <= threshold, with a threshold in float64. Rounded down to float32, the threshold parts
float32 numbers in the same way. XGBoost goes left where x < threshold, both in float32, which ONNX has as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.parts import Graph

__all__ = ["Ensemble", "Transform", "round_down"]

_LARGEST = float(np.finfo(np.float32).max)

_ML = "ai.onnx.ml"


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(thresholds, dtype=np.float32)
        lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > thresholds, lower, rounded)


@dataclass
class Ensemble:
    """Trees that are summed, as ONNX's TreeEnsembleRegressor takes them."""

    targets: int = 1
    is_below: bool = False
    """Left is where a value is below the threshold, in float32; else where it is at most the threshold."""
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    trees: int = 0
    thresholds: list[float] = field(default_factory=list)
    """Of each node, as the framework has it; 0 of a leaf."""

    def add(
        self,
        *,
        left: NDArray[Any],
        right: NDArray[Any],
        feature: NDArray[Any],
        threshold: NDArray[np.float64],
        missing_left: NDArray[Any],
        weights: NDArray[np.float64],
    ) -> None:
        """Add a tree.

        Args:
            left: for each node the one to go to where the value is at most, or below, the threshold; below 0 at a leaf.
            right: the other one.
            feature: the column that is looked at.
            threshold: as the framework has it.
            missing_left: where a missing value goes.
            weights: shape (nodes, targets), or (nodes,) for the first target; those of leaves are summed.
        """
        values = threshold if self.is_below else round_down(np.asarray(threshold, dtype=np.float64))
        mode = "BRANCH_LT" if self.is_below else "BRANCH_LEQ"
        weights = np.asarray(weights, dtype=np.float64).reshape(len(left), -1)
        for number in range(len(left)):
            is_leaf = left[number] < 0
            node = {
                "nodes_treeids": self.trees,
                "nodes_nodeids": number,
                "nodes_featureids": 0 if is_leaf else int(feature[number]),
                "nodes_values": 0.0 if is_leaf else float(values[number]),
                "nodes_modes": "LEAF" if is_leaf else mode,
                "nodes_truenodeids": 0 if is_leaf else int(left[number]),
                "nodes_falsenodeids": 0 if is_leaf else int(right[number]),
                "nodes_missing_value_tracks_true": int(not is_leaf and bool(missing_left[number])),
            }
            _append(self.nodes, node)
            self.thresholds.append(0.0 if is_leaf else float(threshold[number]))
            if is_leaf:
                for target, weight in enumerate(weights[number]):
                    leaf = {
                        "target_treeids": self.trees,
                        "target_nodeids": number,
                        "target_ids": target,
                        "target_weights": float(weight),
                    }
                    _append(self.leaves, leaf)
        self.trees += 1

    def take_before(self, transform: Transform, *, casts: bool) -> None:
        """Have the trees take the readings that a transform is made of, in place of what it gives.

        Where a transform leaves each column to itself and never falls where it rises, a node that asks for its result
        may as well ask for the reading: for the largest one whose result goes left. So no rounding of
        the transform in float32 sends a reading the other way.

        Args:
            transform: of rows, shape (n, width), as the framework computes it.
            casts: the framework rounds its result to float32 before it compares.
        """
        places = np.array([mode != "LEAF" for mode in self.nodes["nodes_modes"]]).nonzero()[0]
        features = np.array(self.nodes["nodes_featureids"])[places]
        thresholds = np.array(self.thresholds)[places]

        def goes_left(values: NDArray[np.float64]) -> NDArray[np.bool_]:
            found: NDArray[np.bool_] = values < thresholds if self.is_below else values <= thresholds
            return found

        def results(values: NDArray[np.float64]) -> NDArray[np.float64]:
            rows = np.zeros((len(values), transform.width))
            rows[np.arange(len(values)), features] = values
            found = np.asarray(transform.of(rows))[np.arange(len(values)), features]
            with np.errstate(over="ignore"):
                rounded: NDArray[np.float64] = (found.astype(np.float32) if casts else found).astype(np.float64)
            return rounded

        # Float32 numbers in their order are whole numbers in theirs, so 32 steps of halving find the last one.
        low = np.full(len(places), _number_of(-_LARGEST), dtype=np.int64)
        high = np.full(len(places), _number_of(_LARGEST), dtype=np.int64)
        while (low < high).any():
            middle = (low + high + 1) // 2
            is_left = goes_left(results(_floats_of(middle)))
            low, high = np.where(is_left, middle, low), np.where(is_left, high, middle - 1)
        raw = _floats_of(low)
        raw[~goes_left(results(raw))] = -np.inf
        missing = results(np.full(len(places), np.nan))
        for place, threshold, result, is_left in zip(
            places.tolist(), raw.tolist(), missing.tolist(), goes_left(missing).tolist(), strict=True
        ):
            self.nodes["nodes_values"][place] = threshold
            self.nodes["nodes_modes"][place] = "BRANCH_LEQ"
            if not np.isnan(result):
                self.nodes["nodes_missing_value_tracks_true"][place] = int(is_left)

    def append(self, graph: Graph, source: str, base: Iterable[float] | None = None) -> str:
        """The operator; gives the sums, (n, targets)."""
        extra = {} if base is None else {"base_values": [float(value) for value in base]}
        attributes = {**self.nodes, **self.leaves, **extra}
        return graph.add(
            "TreeEnsembleRegressor",
            source,
            domain=_ML,
            n_targets=self.targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **attributes,
        )


@dataclass(frozen=True, slots=True)
class Transform:
    """What stands before trees."""

    of: Callable[[NDArray[np.float64]], Any]
    """Of rows, shape (n, width); gives as many columns."""
    width: int


def _number_of(value: float) -> int:
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _floats_of(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The float32 numbers of these places in their order."""
    bits = np.where(numbers >= 0, numbers, np.int64(0x80000000) - numbers).astype(np.uint32)
    return bits.view(np.float32).astype(np.float64)


def _append(lists: dict[str, list[Any]], values: dict[str, Any]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)
