"""Holds a converted model against its framework: item by item, near its limits, with missing values, in every batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AccuracyError, ConversionError, DataError
from edgetool.frameworks.made import MOST_ROWS, Answers, Made, batch_axes
from edgetool.frameworks.near import near_thresholds
from edgetool.frameworks.one_line import one_line
from edgetool.verify.arrays import Sample
from edgetool.verify.scores import poor_channels
from edgetool.verify.workbench import Workbench

__all__ = ["BATCHES", "TOLERANCE", "Agreed", "check", "poor_answers", "probes"]

TOLERANCE = 1e-4
"""Largest difference, in units of the spread of the framework's answers for the items."""
BATCHES = (1, 3, 257)
"""Sizes in which all items are run."""
_FEWEST_ITEMS = 16
_MOST_VALUES = 1 << 22
"""Of all items together; of large windows, fewer are compared."""
_MISSING_ITEMS = 64
_ROUNDING_STEPS = 16
_LARGE = 300.0
"""Spreads of a channel: where its mean is more, float32 leaves less of its differences than the tolerance asks."""
_SAME = 1e-5
"""Share of its size by which an answer varies that is the same for all items."""
_GUESSES_FAR_OFF = "reg:pseudohubererror"
"""See findings/xgboost_pseudo_huber_base_score.sh."""
_SCALE_TARGETS = (
    "scale the targets, too, in scikit-learn by TransformedTargetRegressor(make_pipeline(StandardScaler(), network), "
    "transformer=StandardScaler())"
)
_SAVE_ANOTHER = (
    "save another form of it; or, where that does no harm to the scores, allow it with edgetool export --tolerance, "
    "and pack the file that this writes"
)
_BY_ITSELF = (
    "save a form that treats each row or window by itself, without a branch on the size of the batch, and without "
    "squeeze()"
)
_NETWORKS = ("PyTorch", "TensorFlow", "Keras")
_UNSCALED = 100.0
"""A usual value of this size is not one of readings that were scaled, which networks mostly want."""
_SHOWN = 10
"""Channels that are named."""
_ALONE = 8
"""Items that the framework is asked for one by one."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """How a model agrees with its framework."""

    rows: int
    """Rows or windows that were compared, in each size of batch."""
    missing: int
    """Of them, those with a missing value."""
    deviation: float
    """Largest difference of an answer, in units of the spread of the framework's answers."""
    difference: float
    """The same, as it is."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__slots__}


def probes(given: Sample, made: Made) -> Sample:
    """Items of the data, moved far out, at the thresholds of trees, and with missing values where these are taken.

    Args:
        given: rows or windows, n of them on the axis of the batch of each input.
        made: the model with its source.
    """
    rng = np.random.default_rng(0)
    axes = batch_axes(made.model.graph.input)
    first = next(iter(axes))
    items = np.moveaxis(given[first], axes[first], 0)
    flat = items.reshape(len(items), -1)
    known = np.flatnonzero(np.isfinite(flat).all(axis=1)) if flat.dtype.kind == "f" else np.arange(len(flat))
    if not len(known):
        raise DataError(f"{made.origin.estimator}: no row or window without a missing value is there to compare on")
    most = max(min(made.most_rows, _MOST_VALUES // max(flat.shape[1], 1)), _FEWEST_ITEMS)
    picked = known[np.unique(np.linspace(0, len(known) - 1, most).astype(int))]
    parts, places = [flat[picked]], [picked]
    if made.is_exact_far_out and flat.dtype.kind == "f":
        again = picked[rng.integers(0, len(picked), len(picked) // 4 + 1)]
        spread = flat[picked].std(axis=0)
        parts.append(flat[again] + rng.normal(scale=5.0, size=(len(again), flat.shape[1])) * spread)
        places.append(again)
    near, again = near_thresholds(made.model, flat[picked], rng)
    parts.append(near)
    places.append(picked[again])
    if made.takes_missing:
        again = picked[rng.integers(0, len(picked), _MISSING_ITEMS)]
        holes = flat[again].copy()
        holes[np.arange(len(holes)), rng.integers(0, holes.shape[1], len(holes))] = np.nan
        parts.append(holes)
        places.append(again)
    whole = np.concatenate(parts).reshape(-1, *items.shape[1:])
    # What the device has are float32 numbers, so the framework gets the same.
    found = {first: _cast(np.moveaxis(whole, 0, axes[first]))}
    rest = {name: np.take(given[name], np.concatenate(places), axis=axes[name]) for name in axes if name != first}
    return {**found, **{name: _cast(values) for name, values in rest.items()}}


def check(made: Made, items: Sample, bench: Workbench, model: Path, *, tolerance: float) -> Agreed:
    """Compare a model with what the framework answers.

    Args:
        made: the model with its source.
        items: from `probes`.
        bench: runs the model.
        model: its file.
        tolerance: largest difference, in units of the spread of the framework's answers.

    Raises:
        AccuracyError: an answer is further off, or the framework's own one is another each time; the text names what
            was converted, and where it is off most.
        ConversionError: the model does not run.
    """
    worst, difference = _compare(made, items, bench, model, tolerance=tolerance, sizes=BATCHES)
    if made.open_axis is not None:
        name, axis = next(iter(items)), made.open_axis
        shorter = {**items, name: np.take(items[name], range(max(items[name].shape[axis] - 3, 1)), axis=axis)}
        other = _compare(made, shorter, bench, model, tolerance=tolerance, sizes=BATCHES[1:2])
        worst, difference = max((worst, difference), other)
    first, *_ = items.values()
    count = first.shape[next(iter(batch_axes(made.model.graph.input).values()))]
    missing = np.isnan(first).reshape(count, -1).any(axis=1).sum() if made.takes_missing else 0
    return Agreed(count, int(missing), worst, difference)


def poor_answers(made: Made, items: Sample, columns: Sequence[str]) -> list[str]:
    """What to say of a prediction with the size of its input that follows some of its values no better than their mean.

    Args:
        made: a model that takes rows.
        items: rows of data, one input of shape (n, columns).
        columns: their names; empty where the items are not readings.
    """
    if len(items) != 1 or not columns:
        return []
    (rows,) = items.values()
    answer = made.answer(_of_known(items)).get("prediction")
    known = next(iter(_of_known(items).values()))
    if rows.ndim != 2 or answer is None or answer.shape != known.shape or not np.isfinite(answer).all():
        return []
    poor = poor_channels(answer, known)
    if not poor.any():
        return []
    names = ", ".join([name for name, is_poor in zip(columns, poor, strict=True) if is_poor][:_SHOWN])
    told = (
        f"as a reconstruction of the readings, prediction is no better than the mean in {int(poor.sum())} of "
        f"{len(poor)} channels ({names}). Where it is to be one, train it longer, or {_SCALE_TARGETS}"
    )
    return [told]


def _of_known(items: Sample) -> Sample:
    """Rows without a missing value, as many as a model is compared on."""
    ((name, rows),) = items.items()
    known = rows[np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))]
    return {name: _cast(known[np.unique(np.linspace(0, len(known) - 1, MOST_ROWS).astype(int))])}


def _compare(
    made: Made, items: Sample, bench: Workbench, model: Path, *, tolerance: float, sizes: tuple[int, ...]
) -> tuple[float, float]:
    """The largest difference, in units of the spread and as it is."""
    axes = batch_axes(made.model.graph.input)
    into = batch_axes(made.model.graph.output)
    parts = [_asked(made, part) for part in _cut(items, axes, max(BATCHES))]
    _refuse_dice(made, next(_cut(items, axes, max(BATCHES))), parts[0])
    expected = {name: _side_by_side([part[name] for part in parts], into[name]) for name in parts[0]}
    _refuse_company(made, items, expected, tolerance)
    _refuse_same(made, items, expected)
    worst, difference = 0.0, 0.0
    for size in sizes:
        given = bench.keep_samples(list(_cut(items, axes, size)))
        try:
            found = bench.run(model, on=given)
        except ConversionError as exc:
            more = f"; {made.advice}" if made.advice else ""
            raise ConversionError(f"{made.origin.estimator}: fails in batches of {size} ({exc}){more}") from exc
        given.unlink()
        for name, wanted in expected.items():
            answers = _side_by_side([part[name] for part in found], into[name])
            if answers.shape != wanted.shape:
                raise AccuracyError(
                    f"{made.origin.estimator}: {name} has {answers.shape[1]} values for each of {len(answers)} items, "
                    f"{made.origin.framework} gives {wanted.shape[1]} for each of {len(wanted)} (converted by "
                    f"{made.origin.converter}); save another form of it, with sizes that are fixed"
                )
            off, scale = _off(answers, wanted)
            place = np.unravel_index(np.argmax(off / scale), off.shape)
            share = float(off[place] / scale[place[1]])
            if share > worst:
                worst, difference = share, float(off[place])
            if not share <= tolerance:
                answer = answers[place]
                raise AccuracyError(
                    f"{made.origin.estimator}: {name} is {answer:.7g} for item {place[0]} where "
                    f"{made.origin.framework} says {wanted[place]:.7g}, {share:.2g} of the answers' spread in batches "
                    f"of {size} (at most {tolerance:g} is allowed; converted by {made.origin.converter}); "
                    + _advice(made, next(iter(items.values())))
                )
    return worst, difference


def _asked(made: Made, items: Sample) -> Answers:
    """What the framework answers.

    Raises:
        ConversionError: it fails, which is told with its own words.
    """
    try:
        return made.answer(items)
    # It runs what somebody else has written, which may raise anything, or end the program.
    except (Exception, SystemExit) as exc:
        count = next(iter(items.values())).shape[next(iter(batch_axes(made.model.graph.input).values()))]
        raise ConversionError(
            f"{made.origin.estimator}: {made.origin.framework} itself fails for a batch of {count} "
            f"({one_line(exc)}){'; ' * bool(made.advice)}{made.advice}"
        ) from exc


def _refuse_company(made: Made, items: Sample, expected: Answers, tolerance: float) -> None:
    """Refuse what answers an item otherwise alone than beside others: a device asks for one at a time, and for many."""
    into, axes = batch_axes(made.model.graph.output), batch_axes(made.model.graph.input)
    for name, wanted in expected.items():
        if not np.isfinite(wanted).any():
            raise AccuracyError(
                f"{made.origin.estimator}: {name} is not a finite number for any item, in {made.origin.framework} "
                "itself; are these the readings that it was trained on?"
            )
    for number, item in zip(range(_ALONE), _cut(items, axes, 1), strict=False):
        for name, answer in _asked(made, item).items():
            wanted = expected[name]
            is_one = answer.ndim > into[name] and answer.shape[into[name]] == 1 and answer.size == wanted.shape[1]
            if is_one:
                # Another batch may be summed in another order, which is no dependence on what is beside it.
                off, _ = _off(_side_by_side([answer], into[name]), wanted[number : number + 1], steps=_ROUNDING_STEPS)
                is_one = bool((off <= tolerance * _spread(wanted)).all())
            if not is_one:
                raise AccuracyError(
                    f"{made.origin.estimator}: {made.origin.framework} itself has another {name} for item {number} "
                    f"alone ({answer.ravel()[:3]}) than beside others ({wanted[number][:3]}); "
                    + (_of_large(made, next(iter(items.values()))) or _BY_ITSELF)
                )


def _refuse_same(made: Made, items: Sample, expected: Answers) -> None:
    """Refuse a source that hardly tells one item from another, whose last digits are all that could be compared."""
    first = next(iter(items.values()))
    told = [values for values in expected.values() if np.isfinite(values).any()]
    is_same = all((np.nanstd(values, axis=0) <= _SAME * np.nanmax(np.abs(values), axis=0)).all() for values in told)
    if not told or not is_same or len(told[0]) < _FEWEST_ITEMS or np.ptp(first) == 0:
        return
    name = next(iter(expected))
    about = (
        f"{made.origin.estimator}: {made.origin.framework} itself gives the same {name} for all items, or nearly so "
        f"({', '.join(f'{value:.4g}' for value in expected[name][0][:3])}), far out, too: its training has come to "
        "nothing"
    )
    if _GUESSES_FAR_OFF in made.origin.estimator:
        raise AccuracyError(
            f"{about}; for this objective XGBoost guesses a base score far off: give it one, as base_score, the mean "
            "of the targets"
        )
    raise AccuracyError(
        f"{about}, or it expects scaled readings, and is given raw ones. Of a network whose targets are in units of "
        f"different sizes, such as Pa beside l/s, {_SCALE_TARGETS}"
    )


def _cut(items: Sample, axes: dict[str, int], size: int) -> Iterator[Sample]:
    """The items in batches of a size, the last of which may be smaller."""
    first = next(iter(axes))
    for start in range(0, items[first].shape[axes[first]], size):
        stop = min(start + size, items[first].shape[axes[first]])
        yield {name: np.take(items[name], range(start, stop), axis=axis) for name, axis in axes.items()}


def _side_by_side(parts: list[NDArray[Any]], axis: int) -> NDArray[np.float64]:
    """Answers of batches as one row for each item."""
    whole = np.concatenate([np.moveaxis(part, axis if part.ndim else 0, 0) for part in parts])
    return whole.reshape(len(whole), -1).astype(np.float64)


def _off(
    found: NDArray[np.float64], wanted: NDArray[np.float64], *, steps: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each answer is off beyond some steps of float32, and the spread of each column."""
    off = np.abs(found - wanted)
    off[(found == wanted) | (np.isnan(found) & np.isnan(wanted))] = 0.0
    off[np.isnan(off)] = np.inf
    # An answer cannot be nearer than one step of float32, whatever computes it.
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.maximum(off - steps * np.nan_to_num(np.spacing(np.abs(wanted).astype(np.float32))), 0.0)
    return off, _spread(wanted)


def _refuse_dice(made: Made, items: Sample, answers: Answers) -> None:
    for name, again in _asked(made, items).items():
        if not np.array_equal(again, answers[name], equal_nan=again.dtype.kind == "f"):
            raise AccuracyError(
                f"{made.origin.estimator}: {made.origin.framework} itself answers the same items with another {name} "
                "each time: it draws random numbers, or keeps a state. Export a form without that: in evaluation mode, "
                "with the mean in place of a sample, and with a state as input and output"
            )


def _cast(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column, over the rows; of one that does not vary its size, or 1."""
    finite = np.where(np.isfinite(values), values, np.nan)
    spread = np.nanstd(finite, axis=0)
    size = np.nanmax(np.abs(finite), axis=0, initial=0.0)
    found: NDArray[np.float64] = np.where(spread > 1e-9 * np.maximum(size, 1e-300), spread, np.maximum(size, 1.0))
    return found


def _advice(made: Made, items: NDArray[Any]) -> str:
    return _of_large(made, items) or made.advice or _SAVE_ANOTHER


def _of_large(made: Made, items: NDArray[Any]) -> str:
    """What to do where rounding may decide, or a network is given raw readings; empty where neither can be."""
    if items.dtype.kind != "f":
        return ""
    # Of windows with the channels first, these are the rows.
    axes = [(0, 1), (0, 2)] if items.ndim == 3 else [tuple(range(items.ndim - 1))]
    is_large = False
    for each in axes:
        low, middle, high = np.nanquantile(items.astype(np.float64), (0.25, 0.5, 0.75), axis=each)
        is_large |= bool((np.abs(middle) > _LARGE * np.maximum(high - low, 1e-300)).any())
        is_large |= made.origin.framework.startswith(_NETWORKS) and bool((np.abs(middle) > _UNSCALED).any())
    if is_large and "Scaler" not in made.origin.estimator:
        return (
            "readings are large beside how they vary, and float32 does not hold their differences: if it was trained "
            "on scaled readings, edgetool pack puts the scaling before it: --scale FILE, or --scale data; if not, put "
            "a StandardScaler before it, and train again"
        )
    return ""
