"""Trees that are summed, as one operator.

Frameworks go left where x <= threshold, with a threshold in float64. Rounded down to float32, the threshold parts
float32 numbers in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetool.frameworks.parts import Graph

__all__ = ["Ensemble", "round_down"]

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
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    trees: int = 0

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
            left: for each node the one to go to where the value is at most the threshold; below 0 at a leaf.
            right: the other one.
            feature: the column that is looked at.
            threshold: as the framework has it.
            missing_left: where a missing value goes.
            weights: shape (nodes, targets), or (nodes,) for the first target; those of leaves are summed.
        """
        values = round_down(np.asarray(threshold, dtype=np.float64))
        weights = np.asarray(weights, dtype=np.float64).reshape(len(left), -1)
        for number in range(len(left)):
            is_leaf = left[number] < 0
            node = {
                "nodes_treeids": self.trees,
                "nodes_nodeids": number,
                "nodes_featureids": 0 if is_leaf else int(feature[number]),
                "nodes_values": 0.0 if is_leaf else float(values[number]),
                "nodes_modes": "LEAF" if is_leaf else "BRANCH_LEQ",
                "nodes_truenodeids": 0 if is_leaf else int(left[number]),
                "nodes_falsenodeids": 0 if is_leaf else int(right[number]),
                "nodes_missing_value_tracks_true": int(not is_leaf and bool(missing_left[number])),
            }
            _append(self.nodes, node)
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


def _append(lists: dict[str, list[Any]], values: dict[str, Any]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)
