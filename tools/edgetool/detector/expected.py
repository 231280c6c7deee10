"""Holds a bundle's scores against those that the author's own code gave for the same rows.

Everything else is compared with the ONNX file, and a converter that is silently wrong has written that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import ExpectedPart
from edge_agent.errors import AccuracyError, DataError
from edge_agent.messages.reading import FloatArray
from edgetool.data import SensorData, open_arrays
from edgetool.verify.scores import count_flips, rank_correlation

__all__ = ["Agreement", "check_expected", "read_expected"]

_ARRAY = "score"
_SAME_ORDER = 0.999
_LEAST_DIFFERENT = 5
"""Values: labels of classes have fewer."""
_NEAR = 0.1
"""Share of the windows, those that are nearest to the limit, that are looked at by themselves."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a bundle's scores agree with expected ones."""

    windows: int
    deviation: float
    """Largest difference, as a share of the expected score's distance from their median, or of the range of the middle
    half of them where that is more: a score of 1000 that varies by 1 has to be right in its variation."""
    deviation_near_limit: float
    """The same, of the tenth of the windows whose expected scores are nearest to the limit."""
    verdicts_changed: int
    """Windows that reach the limit by one score and not by the other."""
    rank_correlation: float
    """Spearman's."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}

    def part(self) -> ExpectedPart:
        """For the manifest."""
        return ExpectedPart(windows=self.windows, deviation=self.deviation, verdicts_changed=self.verdicts_changed)


def read_expected(text: str, rows: SensorData) -> tuple[SensorData, NDArray[np.float64]]:
    """The data without the expected scores, and these: shape (rows,), NaN where none is given.

    Args:
        text: a column of the data, or an `.npz` with `score`, one for each row.
        rows: the data.

    Raises:
        DataError: there is no such column, or the file does not fit the rows.
    """
    if text in rows.channels:
        others = tuple(name for name in rows.channels if name != text)
        return rows.select(others), rows.values[:, rows.channels.index(text)]
    path = Path(text)
    if path.suffix != ".npz":
        raise DataError(f"--expect {text}: is no column of {rows.path}, which has {', '.join(rows.channels[:20])}")
    with open_arrays(path) as arrays:
        if _ARRAY not in arrays.names:
            raise DataError(f"{path}: has {', '.join(arrays.names[:20])}; expected `{_ARRAY}`, one for each row")
        found = np.asarray(arrays.read(_ARRAY), dtype=np.float64).ravel()
    if len(found) != len(rows):
        raise DataError(f"{path}: has {len(found)} scores, {rows.path} has {len(rows)} rows; NaN where there is none")
    infinite = np.flatnonzero(np.isinf(found))
    if infinite.size:
        raise DataError(
            f"{path}: {infinite.size} of the expected scores are infinite, the first of row {infinite[0]} (from 0), "
            "and no bundle's is; put NaN where there is none, or let the author's code give a finite one"
        )
    return rows, found


def check_expected(expected: NDArray[np.float64], scores: FloatArray, *, alarm: float, tolerance: float) -> Agreement:
    """Refuse scores that are not the expected ones.

    Args:
        expected: shape (n,), in the direction of `scores`; NaN where none is given.
        scores: shape (n,), of the bundle.
        alarm: the alarm limit.
        tolerance: largest deviation.

    Raises:
        AccuracyError: they differ by more.
        DataError: no window has an expected score.
    """
    given = np.isfinite(expected)
    if not given.any():
        raise DataError("--expect: no complete window ends with a row that has an expected score")
    want, have = expected[given], scores[given].astype(np.float64)
    low, median, high = np.quantile(want, (0.25, 0.5, 0.75))
    # A CUSUM is 0 for half of its rows, and says all with the others.
    spread = high - low if high > low else float(want.std())
    if np.unique(want).size < _LEAST_DIFFERENT:
        raise DataError(
            f"--expect: the {len(want)} expected scores have {np.unique(want).size} values ({median:.6g} for most), so "
            "nothing can be held against them; is it the right column?"
        )
    off = np.abs(have - want) / np.maximum(np.abs(want - median), spread)
    near = np.argsort(np.abs(want - alarm), kind="stable")[: max(1, int(_NEAR * len(want)))]
    found = Agreement(
        windows=len(want),
        deviation=float(off.max()),
        deviation_near_limit=float(off[near].max()),
        verdicts_changed=count_flips(want, have, alarm),
        rank_correlation=rank_correlation(want, have),
    )
    if not found.deviation <= tolerance:
        worst = int(off.argmax())
        raise AccuracyError(
            f"--expect: the bundle's scores are not the expected ones: off by {found.deviation:.3g} of them, "
            f"{found.deviation_near_limit:.3g} near the limit, at most {tolerance:g} is allowed; the worst is "
            f"{have[worst]:.6g} for {want[worst]:.6g} (window {worst} of {len(want)}). {_why(found)}"
        )
    return found


def _why(found: Agreement) -> str:
    if found.rank_correlation > _SAME_ORDER:
        return (
            "Their order is the same, so the score is of another form: is it --score mse or mae, another column, or "
            "scaled?"
        )
    if found.rank_correlation < -_SAME_ORDER:
        return "Their order is reversed: --higher-is says the other direction"
    return "Their order differs too: the converter has changed the model, or the output is another one"
