"""Numbers that stand for a window of each channel, for a model that was trained on these and not on readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import FeatureIs, FeaturesBy, as_member
from edgetool.graph.nodes import Nodes

__all__ = ["Features", "parse_features"]


@dataclass(frozen=True, slots=True)
class Features:
    """Which numbers, and how they are lined up."""

    kinds: tuple[FeatureIs, ...]
    by_channel: bool
    """All of the first channel, then all of the second; else the first of all channels, then the second of all."""

    def count(self, channels: int) -> int:
        """How many numbers a window has."""
        return len(self.kinds) * channels

    def of(self, windows: FloatArray) -> FloatArray:
        """The numbers of windows (n, rows, channels): shape (n, 1, count), float32."""
        exact = windows.astype(np.float64)
        found = np.stack([_of_kind(kind, exact) for kind in self.kinds], axis=1)
        lined = found.transpose(0, 2, 1) if self.by_channel else found
        return np.ascontiguousarray(lined.reshape(len(windows), 1, -1).astype(np.float32))

    def names(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """A name for each number."""
        pairs = (
            [(kind, name) for name in channels for kind in self.kinds]
            if self.by_channel
            else [(kind, name) for kind in self.kinds for name in channels]
        )
        return tuple(f"{kind.value}({name})" for kind, name in pairs)

    def groups(self, channels: int) -> NDArray[np.float32]:
        """Which channel each number is of: shape (count, channels), 1 or 0."""
        one = np.eye(channels, dtype=np.float32)
        return np.repeat(one, len(self.kinds), axis=0) if self.by_channel else np.tile(one, (len(self.kinds), 1))

    def append(self, nodes: Nodes, source: str, *, rows: int, channels: int) -> str:
        """Nodes that make the numbers of `source` (n, rows, channels); gives the tensor (n, 1, count)."""
        parts = [self._append_kind(nodes, kind, source, rows) for kind in self.kinds]
        axis = 2 if self.by_channel else 1
        shape = [-1, channels, 1] if self.by_channel else [-1, 1, channels]
        columns = [nodes.reshape(part, f"{part}_column", shape) for part in parts]
        stacked = nodes.add("Concat", columns, "features_stacked", axis=axis)
        return nodes.reshape(stacked, "features", [-1, 1, self.count(channels)])

    def _append_kind(self, nodes: Nodes, kind: FeatureIs, source: str, rows: int) -> str:
        name = f"feature_{kind.value}"
        match kind:
            case FeatureIs.MEAN:
                return _mean(nodes, source, name, keep=False)
            case FeatureIs.MIN:
                return nodes.reduce("ReduceMin", source, name, axis=1)
            case FeatureIs.MAX:
                return nodes.reduce("ReduceMax", source, name, axis=1)
            case FeatureIs.ENERGY:
                return nodes.reduce("ReduceMean", nodes.add("Mul", [source, source], f"{name}_square"), name, axis=1)
            case FeatureIs.SLOPE:
                # Of deviations from the mean, whose sum float32 holds also beside a large offset.
                weights = nodes.constant(f"{name}_weights", _slope_weights(rows)[:, np.newaxis])
                part = nodes.add("Mul", [_centred(nodes, source, name), weights], f"{name}_part")
                return nodes.reduce("ReduceSum", part, name, axis=1)
            case FeatureIs.STD:
                centred = _centred(nodes, source, name)
                square = nodes.add("Mul", [centred, centred], f"{name}_square")
                return nodes.add("Sqrt", [nodes.reduce("ReduceMean", square, f"{name}_variance", axis=1)], name)


def parse_features(text: str | None, by: FeaturesBy, *, window: int | None, channels: int) -> Features | None:
    """What `--features` says; None where it says nothing.

    Args:
        text: such as `mean,std`.
        by: how they are lined up.
        window: rows that they are of.
        channels: number of channels.

    Raises:
        UsageError: there is no such feature, one stands there twice, the window is not given, or the order is open.
    """
    if text is None:
        if by is not FeaturesBy.AUTO:
            raise UsageError(f"--features-by {by.value}: needs --features")
        return None
    kinds = tuple(as_member(FeatureIs, word.strip(), named="features") for word in text.split(","))
    if len(set(kinds)) < len(kinds):
        raise UsageError(f"--features {text}: a feature stands there twice")
    if window is None or window < 2:
        raise UsageError(f"--features {text}: are of a window; say with --window of how many rows, at least 2")
    if by is FeaturesBy.AUTO and len(kinds) > 1 and channels > 1:
        first, second = kinds[:2]
        raise UsageError(
            f"--features {text}: how are they lined up? --features-by feature ({first} of all channels, then "
            f"{second} of "
            f"all), or --features-by channel ({first} and {second} of the first channel, then of the second)"
        )
    return Features(kinds, by_channel=by is FeaturesBy.CHANNEL)


def _slope_weights(rows: int) -> NDArray[np.float64]:
    """Weights whose sum with readings is the slope of the least-squares line, in units a row."""
    at = np.arange(rows) - (rows - 1) / 2
    weights: NDArray[np.float64] = at / np.square(at).sum()
    return weights


def _of_kind(kind: FeatureIs, windows: NDArray[np.float64]) -> NDArray[np.float64]:
    match kind:
        case FeatureIs.MEAN:
            found = windows.mean(axis=1)
        case FeatureIs.STD:
            found = windows.std(axis=1)
        case FeatureIs.MIN:
            found = windows.min(axis=1)
        case FeatureIs.MAX:
            found = windows.max(axis=1)
        case FeatureIs.ENERGY:
            found = np.square(windows).mean(axis=1)
        case FeatureIs.SLOPE:
            centred = windows - windows.mean(axis=1, keepdims=True)
            found = (centred * _slope_weights(windows.shape[1])[:, np.newaxis]).sum(axis=1)
    return np.asarray(found)


def _centred(nodes: Nodes, source: str, name: str) -> str:
    mean = _mean(nodes, source, f"{name}_mean", keep=True)
    return nodes.add("Sub", [source, mean], f"{name}_centred")


def _mean(nodes: Nodes, source: str, name: str, *, keep: bool) -> str:
    """The mean of the rows, by that of their differences from the first row.

    A sum of readings far from 0 loses their last digits, and which ones hangs on how the runtime adds up a batch: near
    1000, the error of a reconstruction of means was another one alone than beside others.
    """
    first = nodes.rows(source, f"{name}_first", 0, 1)
    off = nodes.add("Sub", [source, first], f"{name}_off")
    off = nodes.reduce("ReduceMean", off, f"{name}_rest", axis=1, keep=True)
    if keep:
        return nodes.add("Add", [first, off], name)
    return nodes.reduce("ReduceSum", nodes.add("Add", [first, off], f"{name}_kept"), name, axis=1)
