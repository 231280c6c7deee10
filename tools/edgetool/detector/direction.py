"""Which way a score points: what the user says, and what an exporter is known to write."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import UsageError
from edgetool.choices import HeadKind, HigherIs

__all__ = ["Sign", "SignFrom", "sign_of_error", "sign_of_score", "sklearn_scores"]


_LABEL = "label"
_SCORES = frozenset({"scores", "score_samples"})
_COMPARES = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Sign"})
_SAME_VALUES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})

_ROUNDING = 1e-5
"""Share of the scores' range: label and score are rounded in different nodes."""


class SignFrom(StrEnum):
    """How the direction of a score was found."""

    GIVEN = "given"
    """The user has said it."""
    EXPORTER = "exporter"
    """The model is of a kind whose direction is known: rows that it labels -1 score below those that it labels 1."""
    NAMES = "names"
    """The model has outputs of such names, but labels no normal row -1: only the names speak for the direction."""
    ERROR = "error"
    """The score is the error of a reconstruction, computed here, which can only point up."""
    ASSUMED = "assumed"
    """Higher is more anomalous, for want of better knowledge."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Which way the model's own score points."""

    flipped: bool
    """True if the score is higher for normal readings, so that its sign is changed."""
    found: SignFrom


def sklearn_scores(model: onnx.ModelProto) -> dict[str, str]:
    """Outputs that skl2onnx writes for an outlier detector of scikit-learn, and the label beside each.

    They are `scores` and `score_samples`, higher for normal rows, beside an int64 `label` that the graph makes from
    them by a comparison: -1 for an outlier. Whether the label has these values, only a run tells (`sign_of_score`).

    Args:
        model: as it was exported, with any repairs.
    """
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    if kinds.get(_LABEL) != onnx.TensorProto.INT64:
        return {}
    return {name: _LABEL for name in _SCORES.intersection(kinds) if _is_compared(model.graph, name, _LABEL)}


def sign_of_score(scores: NDArray[Any], label: NDArray[Any] | None, higher_is: HigherIs) -> Sign:
    """The direction of a score: as it is given, or known, or assumed.

    Args:
        scores: what the model answers on normal rows, shape (n,) or (n, 1).
        label: what it answers beside that, if it is a score of `sklearn_scores`; None for other scores.
        higher_is: what the user has said.
    """
    if higher_is is not HigherIs.AUTO:
        return Sign(higher_is is HigherIs.NORMAL, SignFrom.GIVEN)
    # The sign of a score that is exactly the limit is 0; a label of 0 and 1 is somebody else's.
    if label is not None and np.isin(label, (-1, 0, 1)).all() and np.isin(label, (-1, 1)).mean() > 0.5:
        rows, label = scores.reshape(-1).astype(np.float64), label.reshape(-1)
        outliers, normal = rows[label == -1], rows[label == 1]
        if not len(outliers) or not len(normal):
            return Sign(flipped=True, found=SignFrom.NAMES)
        if outliers.max() <= normal.min() + _ROUNDING * np.ptp(rows):
            return Sign(flipped=True, found=SignFrom.EXPORTER)
    return Sign(flipped=False, found=SignFrom.ASSUMED)


def sign_of_error(name: str, kind: HeadKind, higher_is: HigherIs) -> Sign:
    """The direction of an error or a distance, which are computed here.

    Raises:
        UsageError: it is said to be high for normal readings.
    """
    if higher_is is HigherIs.NORMAL:
        what = "distance" if kind is HeadKind.DISTANCE else f"{kind.value}, whose error"
        raise UsageError(f"--higher-is normal: output {name!r} is a {what} is high for anomalies")
    return Sign(flipped=False, found=SignFrom.ERROR)


def _is_compared(graph: onnx.GraphProto, score: str, label: str) -> bool:
    """True if a path leads from the score to the label through a comparison."""
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    # The label may be made from the same values under another name, as before a change of type.
    start = score
    while start in makers and makers[start].op_type in _SAME_VALUES:
        start = makers[start].input[0]
    seen: set[tuple[str, bool]] = set()
    open_ends = [(score, False), (start, False)]
    while open_ends:
        end = open_ends.pop()
        if end in seen:
            continue
        seen.add(end)
        name, compared = end
        if name == label and compared:
            return True
        for node in users[name]:
            open_ends += [(made, compared or node.op_type in _COMPARES) for made in node.output]
    return False
