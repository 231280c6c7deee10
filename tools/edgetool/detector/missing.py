"""What a detector makes of missing values: nodes that put others in their place, or an answer of the model's own.

A reading without any value is none, on the device as here, so a row that is scored always has one at least.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import ConversionError, DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.values import FLOAT32_MAX
from edge_agent.stream.window_settings import Missing, WindowSettings
from edgetool.data import SensorData
from edgetool.graph.nodes import Nodes

__all__ = ["PASSES_MISSING", "MissingPolicy", "check_answers", "missing_policy", "rows_with_missing", "with_holes"]

PASSES_MISSING = WindowSettings(missing=Missing.MODEL)
"""Windows of readings as they come, with NaN where a value is missing."""

_MEAN, _ZERO, _MODEL = "mean", "zero", "model"
_HOLED = 24
"""Golden vectors with missing values."""
_TRIED = 16
"""Windows that each channel is taken out of."""
_VALUES = 1 << 22
"""Of the windows that are scored at once: 16 MB."""
_SHARE = 0.3
_SAME = 1e-6
_SHOWN = 10
_STEP = "give --missing mean, zero or a number, or leave --missing out, and the device holds the last values"


@dataclass(frozen=True, slots=True)
class MissingPolicy:
    """What `--missing` says."""

    word: str
    fill: FloatArray | None
    """What takes the place of a missing value: shape (channels,), in the channels' units. None: the model has an answer
    of its own."""

    def filled(self, windows: FloatArray) -> FloatArray:
        """Windows (n, rows, channels) as the graph has them behind its first nodes."""
        if self.fill is None:
            return windows
        whole: FloatArray = np.where(np.isnan(windows), self.fill, windows)
        return whole

    def in_words(self) -> str:
        """For a person."""
        if self.fill is None:
            return "missing values as the model takes them"
        return f"missing values as {'the mean of their channel' if self.word == _MEAN else self.word}"

    @property
    def formula(self) -> str:
        """What stands before the score's line of numpy; empty where nothing is replaced."""
        if self.fill is None:
            return ""
        return f"x = np.where(np.isnan(x), {'mean' if self.word == _MEAN else f'{self.fill[0]:g}'}, x); "

    def append(self, nodes: Nodes, readings: str) -> str:
        """Nodes that put values in the place of missing ones; gives the tensor of whole readings."""
        if self.fill is None:
            return readings
        is_there = _is_there(nodes, readings, "readings_there")
        return nodes.add("Where", [is_there, readings, nodes.constant("readings_fill", self.fill)], "readings_whole")

    def mask(self, nodes: Nodes, target: str, error: str) -> str:
        """Nodes that make the error 0 where the reading that it is of is missing, and stays so."""
        if self.fill is not None:
            return error
        is_there = _is_there(nodes, target, "error_there")
        return nodes.add("Where", [is_there, error, nodes.constant("error_none", [0.0])], "error_known")


def _is_there(nodes: Nodes, values: str, output: str) -> str:
    """True where a value is not NaN, which alone is not equal to itself.

    OpenVINO's provider (1.24) leaves IsNaN to the processor, and may cut the graph around it so that the runtime
    refuses it as cyclic.
    """
    return nodes.add("Equal", [values, values], output)


def missing_policy(text: str | None, rows: SensorData) -> MissingPolicy | None:
    """What `--missing` says; None where it says nothing, so that the last values are held.

    Args:
        text: `mean`, `zero`, a number, or `model`.
        rows: normal readings.

    Raises:
        DataError: a channel has no value at all.
        UsageError: it says something else, or there is one channel only.
    """
    if text is None:
        return None
    number = {_MEAN: np.nan, _ZERO: 0.0, _MODEL: np.nan}.get(text)
    if number is None:
        number = _number(text)
    if len(rows.channels) == 1:
        raise UsageError(f"--missing {text}: has no effect on one channel, since a reading without any value is none")
    empty = [name for name, column in zip(rows.channels, rows.values.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise DataError(f"{rows.path}: channel {empty[0]} has no value at all; leave it out with --channels")
    if text == _MODEL:
        return MissingPolicy(text, None)
    fill = np.nanmean(rows.values, axis=0) if text == _MEAN else np.full(len(rows.channels), number)
    return MissingPolicy(text, fill.astype(np.float32))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not abs(number) <= FLOAT32_MAX:
        raise UsageError(f"--missing {text}: expected mean, zero, a number, or model")
    return number


def rows_with_missing(rows: SensorData) -> int:
    """How many readings lack a value; a row without any is none."""
    missing = np.isnan(rows.values)
    return int(np.count_nonzero(missing.any(axis=1) & ~missing.all(axis=1)))


def with_holes(windows: FloatArray) -> FloatArray:
    """Some windows with missing values: of one channel in the last row or in all rows, and of many here and there.

    Args:
        windows: shape (n, rows, channels), whole, of at least two channels.
    """
    channels = windows.shape[2]
    made: FloatArray = windows[np.linspace(0, len(windows) - 1, _HOLED).astype(int)].copy()
    rng = np.random.default_rng(4)
    for number, window in enumerate(made):
        channel = number // 3 * max(1, channels // (_HOLED // 3)) % channels
        if number % 3 == 2:
            holes = rng.random(window.shape) < _SHARE
            holes[:, channel] = True
            holes[:, (channel + 1) % channels] = False
            window[holes] = np.nan
        else:
            window[-1 if number % 3 else slice(None), channel] = np.nan
    return made


def check_answers(
    score: Callable[[FloatArray], FloatArray], windows: FloatArray, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Take each channel out of windows, and refuse a model that has no answer then.

    Args:
        score: scores windows, with NaN where a value is missing.
        windows: shape (n, rows, channels), whole, over the range of scores.
        names: of the channels.

    Returns:
        The channels without which the score is the same for all windows, though it is not with them.

    Raises:
        ConversionError: scores are not finite without some channels, or the same without any of them: an operator has
            swallowed the missing value, as a Relu may.
    """
    tried = windows[np.linspace(0, len(windows) - 1, min(_TRIED, len(windows))).astype(int)]
    whole = score(tried)
    bad: list[str] = []
    blind: list[str] = []
    at_once = max(1, _VALUES // (2 * tried.size))
    for start in range(0, len(names), at_once):
        some = range(start, min(start + at_once, len(names)))
        found = score(np.concatenate([_without(tried, channel) for channel in some])).reshape(len(some), 2, len(tried))
        for channel, scores in zip(some, found, strict=True):
            if not np.isfinite(scores).all():
                bad.append(names[channel])
            elif not _varies(scores[0]) and _varies(whole):
                blind.append(names[channel])
    if bad:
        raise ConversionError(
            f"--missing model: the model has no answer where {_in_words(bad)} is missing, its score is no finite "
            f"number then; {_STEP}"
        )
    if len(blind) == len(names):
        raise ConversionError(
            "--missing model: where one channel is missing, whichever it is, the score is the same for all windows: "
            f"the model did not learn missing values, and an operator of it (such as Relu) swallows them; {_STEP}"
        )
    return tuple(blind)


def _without(windows: FloatArray, channel: int) -> FloatArray:
    """The windows without a channel, and once more without its last value alone."""
    everywhere, last = windows.copy(), windows.copy()
    everywhere[:, :, channel] = np.nan
    last[:, -1, channel] = np.nan
    return np.concatenate([everywhere, last])


def _varies(scores: FloatArray) -> bool:
    return bool(np.ptp(scores) > _SAME * np.abs(scores).max(initial=0.0))


def _in_words(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ("channel " if len(names) == 1 else "one of the channels ") + ", ".join(names[:_SHOWN]) + more
