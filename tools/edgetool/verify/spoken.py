"""Scores that `pack` makes where somebody says the word, and that a form may spoil whose outputs hardly move.

What a point does not hold of the readings (`--head projection`, of a PCA Q), how far a point is from its mean
(`distance:centre`, T2), and errors by their covariance (`--score mahalanobis`) divide by what hardly varies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.golden_vectors import golden_deviation
from edge_agent.messages.reading import FloatArray
from edgetool.verify.arrays import Sample
from edgetool.verify.layout import Layout
from edgetool.verify.odd import odd_windows
from edgetool.verify.scores import MAX_SCORE_DEVIATION, Judged, usual_error
from edgetool.verify.workbench import Workbench

__all__ = ["SpokenScores", "inverse_covariance", "least_squares"]

_SMALLEST_EIGENVALUE = 1e-3
"""Of a correlation matrix. Directions in which normal readings hardly vary would otherwise decide alone."""
_HOLDS = 0.5
"""A point that tells less of the readings' variance than this is no projection of them."""
_MOST_VALUES = 1 << 25
_MOST_CHANNELS = 1000


_Maker: TypeAlias = Callable[[Sequence[Sample], Sequence[Sample]], NDArray[np.float64] | None]


def inverse_covariance(values: NDArray[np.float64]) -> FloatArray:
    """Inverse covariance, over the number of values, of rows whose mean is 0: shape (values, values).

    So the squared distance of a normal row is about 1, as that of a scaled error is.
    """
    spread = values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = values / spread
    lengths, directions = np.linalg.eigh(scaled.T @ scaled / len(values))
    lengths = np.maximum(lengths, _SMALLEST_EIGENVALUE)
    inverse = (directions / lengths) @ directions.T
    return np.asarray(inverse / np.outer(spread, spread) / values.shape[1]).astype(np.float32)


def least_squares(point: NDArray[np.float64], flat: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """The linear map that gives readings back from points with the least square error.

    Of the components of a PCA on its own training data this is the PCA's inverse, whatever each channel was scaled by:
    components are uncorrelated there with all that they leave out, and each channel is a regression of its own.

    Args:
        point: shape (n, values).
        flat: shape (n, rows * channels), in the channels' units.

    Returns:
        A matrix (values, rows * channels) and an offset (rows * channels,).
    """
    centre, offset = point.mean(axis=0), flat.mean(axis=0)
    matrix, *_ = np.linalg.lstsq(point - centre, flat - offset, rcond=None)
    return matrix.astype(np.float32), (offset - centre @ matrix).astype(np.float32)


class SpokenScores:
    """The scores of that kind that a model's answers can become, on normal readings and far from them.

    Args:
        bench: runs models, and has the samples: real readings.
        original: the model's file.
        answers: of the original, to the samples.
        layout: of these.
        judged: outputs that are compared as scores in any case. Beside these, no output is taken for a point.
    """

    def __init__(
        self,
        bench: Workbench,
        original: Path,
        answers: Sequence[Sample],
        *,
        layout: Layout,
        judged: Sequence[Judged],
    ) -> None:
        self._bench, self._layout = bench, layout
        self._makers: dict[str, _Maker] = {}
        """By the options of `pack`, what makes a score of answers and the samples that they are to."""
        self._fit(answers, judged)
        self._odd: list[Sample] = []
        if not self._makers:
            return
        normal = layout.windows_of(bench.samples)
        odd = odd_windows(normal)
        self._odd = layout.batches(odd, len(odd))
        self._file = bench.keep_samples(self._odd)
        try:
            far = bench.run(original, on=self._file)
        except ConversionError:
            # As in `Probes`: a code out of its range says nothing against other forms.
            self._odd, far = [], []
        self._expected = self._scores(answers, far)

    @property
    def of_points(self) -> bool:
        """True if an output can be a point, so that fixed scales need room for readings far from normal."""
        return any(word.startswith("--head") for word in self._makers)

    def refused(self, model: Path, answers: Sequence[Sample]) -> dict[str, float]:
        """The scores of another form that are so far off that `pack` refuses it.

        Args:
            model: that form.
            answers: of it, to all samples.

        Returns:
            By the options that make them, how far they are off (`golden_deviation`).

        Raises:
            ConversionError: it does not run far from normal.
        """
        if not self._makers:
            return {}
        found = self._scores(answers, self._bench.run(model, on=self._file) if self._odd else [])
        moved = {word: golden_deviation(found[word], want) for word, want in self._expected.items() if word in found}
        return {word: deviation for word, deviation in moved.items() if not deviation <= MAX_SCORE_DEVIATION}

    def _scores(self, normal: Sequence[Sample], far: Sequence[Sample]) -> dict[str, NDArray[np.float64]]:
        """By the options that make them, the scores for the samples and for the odd windows."""
        found: dict[str, NDArray[np.float64]] = {}
        for word, make in self._makers.items():
            # A form that overflows is told by its deviation, which is infinite then.
            with np.errstate(over="ignore", invalid="ignore"):
                parts = [make(normal, self._bench.samples), *([make(far, self._odd)] if self._odd else [])]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                found[word] = np.concatenate(whole)
        return found

    def _fit(self, answers: Sequence[Sample], judged: Sequence[Judged]) -> None:
        samples = self._bench.samples
        windows = self._layout.windows_of(samples).astype(np.float64)
        count, rows, channels = windows.shape
        if windows.size > _MOST_VALUES or channels > _MOST_CHANNELS or count * rows < 2 * channels:
            return
        for each in judged:
            if each.source:
                self._add("--score mahalanobis", _whitened(partial(_errors_of, each), answers, samples))
        for name in sorted(answers[0]) if answers and not judged else ():
            point = _points_of(name, answers)
            if point is not None and _may_be_point(point, windows):
                self._fit_point(name, point, windows, answers)

    def _fit_point(
        self, name: str, point: NDArray[np.float64], windows: NDArray[np.float64], answers: Sequence[Sample]
    ) -> None:
        flat = windows.reshape(len(windows), -1)
        matrix, offset = least_squares(point, flat)
        held = point @ matrix + offset
        spread = flat.var(axis=0)
        moves = spread > 0
        if not moves.any() or ((flat - held).var(axis=0)[moves] / spread[moves]).mean() > 1 - _HOLDS:
            return
        usual = usual_error(held.reshape(windows.shape), windows)
        centre, precision = point.mean(axis=0), inverse_covariance(point - point.mean(axis=0))

        def errors(answers: Sequence[Sample], samples: Sequence[Sample]) -> NDArray[np.float64] | None:
            found, given = _points_of(name, answers), self._layout.windows_of(samples).astype(np.float64)
            if found is None or len(found) != len(given) or found.shape[1] != len(matrix):
                return None
            return (given - (found @ matrix + offset).reshape(given.shape)) / usual

        self._add("--head projection", lambda answers, samples: _mean_square(errors(answers, samples)))
        self._add("--head projection --score mahalanobis", _whitened(errors, answers, self._bench.samples))
        self._add("--head distance:centre", lambda answers, _: _quadratic(_points_of(name, answers), centre, precision))

    def _add(self, word: str, maker: _Maker | None) -> None:
        if maker is not None:
            self._makers[word] = maker


def _may_be_point(point: NDArray[np.float64], windows: NDArray[np.float64]) -> bool:
    """True if there are several values, fewer than the readings have; as many as a row has would be a forecast."""
    count, rows, channels = windows.shape
    values = point.shape[1]
    is_forecast = rows > 1 and values == channels
    return len(point) == count >= 2 * values and 1 < values < rows * channels and not is_forecast


def _errors_of(judged: Judged, answers: Sequence[Sample], samples: Sequence[Sample]) -> NDArray[np.float64] | None:
    errors = judged.errors(answers, samples)
    return None if errors is None else np.concatenate(errors)


def _points_of(name: str, answers: Sequence[Sample]) -> NDArray[np.float64] | None:
    """An output as rows of values; None where it is none of floats, or not finite."""
    values = [answer[name] for answer in answers if name in answer]
    if len(values) != len(answers) or any(each.dtype.kind != "f" or each.ndim == 0 for each in values):
        return None
    if len({each.size // max(len(each), 1) for each in values}) != 1:
        return None
    found = np.concatenate([each.reshape(len(each), -1) for each in values]).astype(np.float64)
    return found if np.isfinite(found).all() else None


def _whitened(errors: _Maker, answers: Sequence[Sample], samples: Sequence[Sample]) -> _Maker | None:
    """The score by the covariance of errors, each channel in units of its usual one; None where there are too few."""
    fitted = errors(answers, samples)
    if fitted is None or not np.isfinite(fitted).all() or fitted.size < 2 * fitted.shape[-1] ** 2:
        return None
    precision = inverse_covariance(fitted.reshape(-1, fitted.shape[-1]))
    return lambda answers, samples: _quadratic(errors(answers, samples), 0.0, precision)


def _mean_square(error: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return None if error is None else np.asarray(np.square(error).reshape(len(error), -1).mean(axis=1))


def _quadratic(
    values: NDArray[np.float64] | None, centre: NDArray[np.float64] | float, precision: FloatArray
) -> NDArray[np.float64] | None:
    """The squared Mahalanobis distance, a mean over the rows of a window."""
    if values is None or values.shape[-1] != len(precision):
        return None
    off = values - centre
    return np.asarray(((off @ precision) * off).sum(axis=-1).reshape(len(off), -1).mean(axis=1))
