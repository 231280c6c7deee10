"""What is done to a model's output to make the score of it, and the constants that takes, from normal readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import HeadKind, ScoreIs
from edgetool.detector.direction import Sign, SignFrom
from edgetool.detector.frame import Frame
from edgetool.detector.scaling import Scaling
from edgetool.verify.scores import usual_error
from edgetool.verify.spoken import inverse_covariance, least_squares

__all__ = [
    "PREFIX",
    "Fitted",
    "Head",
    "as_windows",
    "check_digits",
    "fit_head",
    "labels_in_words",
    "reconstruct",
    "target_of",
]

PREFIX = "model/"
"""Stands before every name of the model, so that no name that we add is taken."""
_LOST = 0.01
"""Spreads of a float64 score that float32 may be off by."""
_ERRORS = (HeadKind.RECONSTRUCTION, HeadKind.FORECAST, HeadKind.RESIDUAL, HeadKind.PROJECTION)


@dataclass(frozen=True, slots=True)
class Head:
    """How an output becomes the score."""

    output: str
    kind: HeadKind
    which: str = ""
    """Of `HeadIs`."""
    rows: int = 1
    """Rows of readings that the output is held against."""
    channels_first: bool = False
    """True if the output has the channels of a window, or the classes, before its rows."""
    column: int | None = None
    """Of a class."""
    columns: int = 1
    """How many classes there are."""
    channel: int | None = None
    """Of a residual."""
    sign: Sign = field(default_factory=lambda: Sign(flipped=False, found=SignFrom.ERROR))
    score: ScoreIs = ScoreIs.SCALED
    unscale: Scaling | None = None
    """What the model's answer is scaled back by."""
    in_scaled: bool = False
    """The error is taken in the model's units, and not in the channels'."""
    usual: FloatArray | None = None
    """Usual error (root mean square) on normal rows: shape (channels,), or (1,) of a residual, in channel units."""
    centre: FloatArray | None = None
    """Mean of a point on normal rows, shape (values,); of an error, 0."""
    precision: FloatArray | None = None
    """Inverse covariance of a point, or of an error, on normal rows: shape (values, values)."""
    decoder: tuple[FloatArray, FloatArray] | None = None
    """Of a projection: matrix (values, rows * channels) and offset (rows * channels,), least squares on normal rows."""

    @property
    def name(self) -> str:
        """The output as the model's author knows it."""
        return self.output.removeprefix(PREFIX)

    @property
    def way(self) -> str:
        """How the values of several rows become one: last, mean or max."""
        return self.which.rpartition(":")[2]

    @property
    def has_matrix(self) -> bool:
        """True if its constants are so many that they fit the windows they are from better than others."""
        is_centre = self.kind is HeadKind.DISTANCE and self.which != "nearest"
        is_whitened = self.is_error and self.score is ScoreIs.MAHALANOBIS
        return self.kind is HeadKind.PROJECTION or is_centre or is_whitened

    @property
    def is_error(self) -> bool:
        """True if the score is made of a difference from readings."""
        return self.kind in _ERRORS


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head, and what its constants are fitted on."""

    head: Head
    answer: NDArray[Any]
    """The output's values for `windows`."""
    windows: FloatArray
    """Normal readings, shape (n, frame.moment, channels)."""
    frame: Frame

    def on_all(self) -> Head:
        """The head with constants from all windows."""
        return fit_head(self.head, self.answer, self.windows, self.frame)

    def without(self, start: float, end: float) -> Head:
        """The head with constants from all windows but those between two shares of them, in the order of the data."""
        kept = np.ones(len(self.windows), dtype=bool)
        kept[int(start * len(kept)) : int(np.ceil(end * len(kept)))] = False
        return fit_head(self.head, self.answer[kept], self.windows[kept], self.frame)


def as_windows(answer: NDArray[Any], shape: tuple[int, ...], *, channels_first: bool) -> NDArray[Any]:
    """A reconstruction in the shape of windows.

    Args:
        answer: with as many values.
        shape: of the windows, (n, window, channels).
        channels_first: it has the channels of a window before its rows.
    """
    count, window, channels = shape
    return answer.reshape(count, channels, window).transpose(0, 2, 1) if channels_first else answer.reshape(shape)


def target_of(head: Head, windows: FloatArray, frame: Frame) -> FloatArray:
    """The readings that an output is held against: shape (n, head.rows, channels), or (n, 1, 1) of a residual.

    Args:
        head: of an error.
        windows: shape (n, frame.moment, channels).
        frame: of these.
    """
    if head.kind is HeadKind.RESIDUAL:
        assert head.channel is not None
        return windows[:, -1:, head.channel : head.channel + 1]
    if head.kind is HeadKind.FORECAST:
        return windows[:, frame.moment - head.rows :]
    return windows[:, : frame.seen]


def reconstruct(head: Head, answer: NDArray[Any], target: FloatArray) -> NDArray[np.float64]:
    """What an output says that the readings should be: shape and units of `target`."""
    if head.kind is HeadKind.PROJECTION:
        assert head.decoder is not None
        matrix, offset = head.decoder
        point = answer.reshape(len(target), -1).astype(np.float64)
        return np.asarray(point @ matrix + offset).reshape(target.shape)
    found = as_windows(answer, target.shape, channels_first=head.channels_first).astype(np.float64)
    return found if head.unscale is None else head.unscale.of(head.rows, head.channel).undo(found)


def fit_head(head: Head, answer: NDArray[Any], windows: FloatArray, frame: Frame) -> Head:
    """A head with its constants.

    Args:
        head: without them.
        answer: the output's values for `windows`.
        windows: normal readings, shape (n, frame.moment, channels).
        frame: of these.

    Raises:
        ConversionError: there are too few windows for them.
    """
    if head.kind is HeadKind.DISTANCE and head.which != "nearest":
        point = answer.reshape(len(windows), -1).astype(np.float64)
        _check_enough(head, len(point), point.shape[1])
        centre = point.mean(axis=0)
        return replace(head, centre=centre.astype(np.float32), precision=inverse_covariance(point - centre))
    if not head.is_error:
        return head
    target = target_of(head, windows, frame)
    if head.kind is HeadKind.PROJECTION:
        head = replace(head, decoder=_decoder(head, answer, target))
    error = target - reconstruct(head, answer, target)
    if head.in_scaled and head.unscale is not None:
        units = head.unscale.of(head.rows, head.channel)
        error, target = error / units.scale, ((target - units.offset) / units.scale).astype(np.float32)
    usual = usual_error(target - error, target).astype(np.float32)
    if head.score is not ScoreIs.MAHALANOBIS:
        return replace(head, usual=usual)
    flat = error.reshape(-1, error.shape[-1])
    _check_enough(head, len(flat), flat.shape[1])
    return replace(head, usual=usual, precision=inverse_covariance(flat / usual))


def _decoder(head: Head, answer: NDArray[Any], target: FloatArray) -> tuple[FloatArray, FloatArray]:
    point = answer.reshape(len(target), -1).astype(np.float64)
    _check_enough(head, len(point), point.shape[1])
    return least_squares(point, target.reshape(len(target), -1).astype(np.float64))


def _check_enough(head: Head, rows: int, values: int) -> None:
    if rows < 2 * values:
        raise ConversionError(
            f"output {head.name!r}: {rows} normal rows are too few for a covariance of {values} values, at least "
            f"{2 * values} are needed"
        )


def labels_in_words(labels: Sequence[str]) -> str:
    """The classes of an output; and what they are where a file has only numbers for them, as that of a booster."""
    told = ", ".join(labels[:20])
    if list(labels) != [str(number) for number in range(len(labels))]:
        return told
    return f"{told}, which may count the labels of the training in their order; a saved estimator keeps the labels"


def check_digits(head: Head, own: NDArray[Any]) -> None:
    """Refuse a score of float64 that float32 cuts to a few levels, since a bundle's score is float32.

    Args:
        head: of a score.
        own: its values on normal rows, as the model gives them.

    Raises:
        ConversionError: it does.
    """
    finite = own[np.isfinite(own)]
    if own.dtype != np.float64 or not finite.size:
        return
    lost = float(np.abs(finite - finite.astype(np.float32)).max())
    if lost > _LOST * float(finite.std()):
        levels, kept = len(np.unique(finite)), len(np.unique(finite.astype(np.float32)))
        raise ConversionError(
            f"output {head.name!r} is float64 near {np.median(finite):.4g} with a spread of {finite.std():.2g}, and a "
            f"bundle's score is float32: {levels} different values become {kept}, off by up to {lost:.2g}. Subtract "
            "the offset in the model, in float64"
        )
