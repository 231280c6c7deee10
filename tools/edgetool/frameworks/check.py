"""Holds a converted model against its framework: row by row, near its limits, with missing values, in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AccuracyError
from edgetool.frameworks.made import INPUT, Made
from edgetool.verify.arrays import Sample
from edgetool.verify.workbench import Workbench

__all__ = ["BATCHES", "TOLERANCE", "Agreed", "check", "probe_rows"]

TOLERANCE = 1e-4
"""Largest difference, in units of the spread of the framework's answers for the rows."""
BATCHES = (1, 3, 257)
"""Sizes in which all rows are run."""
_MOST_ROWS = 2048
_MISSING_ROWS = 64


@dataclass(frozen=True, slots=True)
class Agreed:
    """How a model agrees with its framework."""

    rows: int
    """Rows that were compared, in each size of batch."""
    missing: int
    """Of them, rows with a missing value."""
    deviation: float
    """Largest difference of an answer, in units of the spread of the framework's answers."""
    difference: float
    """The same, as it is."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}


def probe_rows(rows: NDArray[np.float64], made: Made) -> NDArray[np.float64]:
    """Rows of the data, some moved far out, and some with missing values where the source takes them.

    Args:
        rows: shape (n, features).
        made: the model with its source.
    """
    rng = np.random.default_rng(0)
    known = rows[np.isfinite(rows).all(axis=1)]
    picked = known[np.unique(np.linspace(0, len(known) - 1, _MOST_ROWS).astype(int))]
    spread = picked.std(axis=0)
    moved = picked[rng.integers(0, len(picked), len(picked) // 4 + 1)].copy()
    moved += rng.normal(scale=5.0, size=moved.shape) * spread
    parts = [picked, moved] if made.is_exact_far_out else [picked]
    if made.takes_missing:
        holes = picked[rng.integers(0, len(picked), _MISSING_ROWS)].copy()
        holes[np.arange(len(holes)), rng.integers(0, holes.shape[1], len(holes))] = np.nan
        parts.append(holes)
    # What the device has are float32 numbers, so the framework gets the same.
    return np.concatenate(parts).astype(np.float32).astype(np.float64)


def check(made: Made, rows: NDArray[np.float64], bench: Workbench, model: Any, *, tolerance: float) -> Agreed:
    """Compare a model with what the framework answers.

    Args:
        made: the model with its source.
        rows: from `probe_rows`.
        bench: runs the model.
        model: its file.
        tolerance: largest difference, in units of the spread of the framework's answers.

    Raises:
        AccuracyError: an answer is further off; the text names what was converted, and where it is off most.
        ConversionError: the model does not run.
    """
    expected = made.answer(rows)
    worst, difference, origin = 0.0, 0.0, made.origin
    for size in BATCHES:
        samples: list[Sample] = [
            {INPUT: rows[start : start + size].astype(np.float32)} for start in range(0, len(rows), size)
        ]
        given = bench.keep_samples([_renamed(sample, made) for sample in samples])
        parts = bench.run(model, on=given)
        given.unlink()
        for name, answers in expected.items():
            found = np.concatenate([part[name] for part in parts]).astype(np.float64).reshape(len(rows), -1)
            wanted = answers.reshape(len(rows), -1)
            off = np.abs(found - wanted)
            off[np.isnan(found) & np.isnan(wanted)] = 0.0
            off[np.isnan(off)] = np.inf
            # An answer cannot be nearer than one step of float32, whatever computes it.
            with np.errstate(over="ignore"):
                off = np.maximum(off - np.spacing(np.abs(wanted).astype(np.float32)), 0.0)
            scale = _spread(wanted)
            place = np.unravel_index(np.argmax(off / scale), off.shape)
            if off[place] / scale[place[1]] > worst:
                worst, difference = float(off[place] / scale[place[1]]), float(off[place])
            if not off[place] <= tolerance * scale[place[1]]:
                share = off[place] / scale[place[1]]
                raise AccuracyError(
                    f"{origin.estimator}: {name} is {found[place]:.7g} for row {place[0]} where {origin.framework} "
                    f"says {wanted[place]:.7g}, {share:.2g} of the answers' spread in batches of {size} (at most "
                    f"{tolerance:g} is allowed; converted by {origin.converter}); {_advice(made, rows)}"
                )
    return Agreed(len(rows), int(np.isnan(rows).any(axis=1).sum()), worst, difference)


def _renamed(sample: Sample, made: Made) -> Sample:
    """Under the name of the model's own input, which skl2onnx calls otherwise."""
    return {made.model.graph.input[0].name: sample[INPUT]}


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column, over the rows; of one that does not vary its size, or 1."""
    finite = np.where(np.isfinite(values), values, np.nan)
    spread = np.nanstd(finite, axis=0)
    size = np.nanmax(np.abs(finite), axis=0, initial=0.0)
    found: NDArray[np.float64] = np.where(spread > 1e-9 * np.maximum(size, 1e-300), spread, np.maximum(size, 1.0))
    return found


def _advice(made: Made, rows: NDArray[np.float64]) -> str:
    finite = rows[np.isfinite(rows).all(axis=1)]
    mean, spread = np.abs(finite.mean(axis=0)), np.maximum(finite.std(axis=0), 1e-300)
    if (mean > 1e4 * spread).any() and "Scaler" not in made.origin.estimator:
        return (
            "readings are large beside how they vary, and float32 does not hold their differences: put a "
            "StandardScaler before it, and train again"
        )
    return "allow it with --tolerance where it does no harm to the scores, or save another form of it"
