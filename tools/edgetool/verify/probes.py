"""What a detector has to get right beyond normal readings: windows far from normal, and a window beside any others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.golden_vectors import golden_deviation
from edge_agent.messages.reading import FloatArray
from edgetool.verify.arrays import Sample
from edgetool.verify.layout import Layout
from edgetool.verify.odd import golden_readings, odd_windows
from edgetool.verify.scores import MAX_BATCH_DEVIATION, MAX_SCORE_DEVIATION, Judged
from edgetool.verify.workbench import Workbench

__all__ = ["Probes", "Ventured", "ventured_problem", "ventured_share"]

_STRICTER = 0.8
"""Share of pack's limits: pack picks other windows than these."""
_ALONE = 8


@dataclass(frozen=True, slots=True)
class Ventured:
    """How far a detector's score moved on windows far from normal, and for the windows beside one."""

    output: str
    windows: int
    deviation: float
    """From the original's scores; see `golden_deviation`."""
    batch_deviation: float | None
    """Of windows alone from the same ones in a batch; None where the original fixes its batch, or fails at it."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "output": self.output,
            "windows": self.windows,
            "deviation": self.deviation,
            "batch_deviation": self.batch_deviation,
        }


def ventured_problem(found: Sequence[Ventured]) -> str:
    """What is beyond `pack`'s limits, with some room; empty when nothing is."""
    for each in found:
        if not each.deviation <= _STRICTER * MAX_SCORE_DEVIATION:
            return (
                f"as the score of a detector, {each.output} is off by {each.deviation:.3g} far from normal, "
                f"at most {_STRICTER * MAX_SCORE_DEVIATION:g} is allowed"
            )
        if each.batch_deviation is not None and not each.batch_deviation <= _STRICTER * MAX_BATCH_DEVIATION:
            return (
                f"as the score of a detector, {each.output} of a row depends on the rows beside it (by "
                f"{each.batch_deviation:.3g}, at most {_STRICTER * MAX_BATCH_DEVIATION:g} is allowed)"
            )
    return ""


def ventured_share(found: Sequence[Ventured]) -> float:
    """The largest share of its limit that anything moved by; above 1 where there is a problem."""
    shares = [each.deviation / (_STRICTER * MAX_SCORE_DEVIATION) for each in found]
    shares += [(each.batch_deviation or 0.0) / (_STRICTER * MAX_BATCH_DEVIATION) for each in found]
    return max(shares, default=0.0)


class Probes:
    """Runs models on windows that are made from normal ones, and holds them against the original.

    Args:
        bench: runs models.
        original: the model's file.
        layout: of its only input.
        judged: the outputs that are compared, at least one.
        scores: of the original for the first of them, on its samples.
    """

    def __init__(
        self,
        bench: Workbench,
        original: Path,
        *,
        layout: Layout,
        judged: Sequence[Judged],
        scores: NDArray[np.float64],
    ) -> None:
        self._bench, self._judged = bench, judged
        normal = layout.windows_of(bench.samples)
        golden = golden_readings(normal, scores) if len(scores) == len(normal) else normal[: 2 * _ALONE]
        self.windows = len(golden)
        """Windows that are scored together."""
        try:
            self._feed(original, layout, np.concatenate([golden, odd_windows(normal)]))
        except ConversionError:
            # A code out of its range: that the model cannot take it says nothing against its other forms.
            self._feed(original, layout, golden)

    def check(self, model: Path) -> list[Ventured]:
        """Hold a model against the original.

        Raises:
            ConversionError: it does not run.
        """
        answers = self._bench.run(model, on=self._file)
        found: list[Ventured] = []
        for each, scores, depends in zip(self._judged, self._expected, self._depends, strict=True):
            together, alone = self._scores(each, answers)
            deviation = _deviation(together, scores)
            apart = None if alone is None or depends else _deviation(alone, together[: len(alone)])
            found.append(Ventured(each.name, len(scores), deviation, apart))
        return found

    def _feed(self, original: Path, layout: Layout, windows: FloatArray) -> None:
        batches = layout.batches(windows, len(windows))
        singles = [] if layout.batch else [layout.feed(windows[i : i + 1]) for i in range(min(_ALONE, len(windows)))]
        self._together, self._samples = len(batches), [*batches, *singles]
        self._file = self._bench.keep_samples(self._samples)
        answers = self._bench.run(original, on=self._file)
        self.windows = len(windows)
        self._expected: list[NDArray[np.float64]] = []
        self._depends: list[bool] = []
        for each in self._judged:
            together, alone = self._scores(each, answers)
            self._expected.append(together)
            depends = alone is not None and _deviation(alone, together[: len(alone)]) > _STRICTER * MAX_BATCH_DEVIATION
            self._depends.append(depends)

    def _scores(
        self, judged: Judged, answers: Sequence[Sample]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Scores of the windows together, and of the first ones alone."""
        cut = self._together
        together = judged.scores(answers[:cut], self._samples[:cut])
        alone = judged.scores(answers[cut:], self._samples[cut:])
        return (np.empty(0) if together is None else together), alone


def _deviation(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """As `golden_deviation`, where the original's scores are finite; others have to be the same."""
    finite = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return math.inf
    return golden_deviation(found[finite], expected[finite]) if finite.any() else 0.0
