"""Checks an engine with a bundle's golden vectors."""

from __future__ import annotations

import statistics
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle
from edge_agent.engine.pace import LARGEST_BATCH, TimedEngine
from edge_agent.errors import BundleError, EdgeError
from edge_agent.golden_vectors import state_deviation
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine

__all__ = ["GoldenError", "Verdict", "check_golden", "check_golden_quickly"]

_SINGLES = 8


class Verdict(StrEnum):
    """The result of trying a candidate."""

    QUALIFIED = "qualified"
    """The candidate gives the golden scores and may run."""
    REFUSED = "refused"
    """The provider does not load or run this model."""
    UNREADABLE = "unreadable"
    """Nothing on this device can load this model, whatever the provider: the bundle is bad."""
    TOO_NEW = "too new"
    """As `UNREADABLE`, and the manifest says that the model needs a newer runtime."""
    WRONG = "wrong scores"
    """A score differs from the golden one by more than the tolerance."""
    NOT_A_NUMBER = "not a number"
    """A score or contribution is NaN or infinite."""
    SHAPE = "wrong shape"
    """The scores or contributions have another shape than the batch requires."""
    ELSEWHERE = "placed elsewhere"
    """The runtime placed no node of the model on the provider."""
    HUNG = "hung"
    """The child process gave no sign of life in time."""
    CRASHED = "crashed"
    """The child process ended before it answered."""
    OUT_OF_MEMORY = "out of memory"
    """The child process exceeded its memory limit, or was killed, as the kernel does when memory runs out."""


class GoldenError(EdgeError):
    """A provider does not give the golden scores.

    Attributes:
        verdict: the kind of deviation.
    """

    exit_code = 69

    def __init__(self, verdict: Verdict, text: str) -> None:
        self.verdict = verdict
        super().__init__(text)


def check_golden(engine: TimedEngine, bundle: Bundle) -> float:
    """Check the golden scores in batches of several sizes, as some providers only fail at a change of size.

    The batches are: the first eight vectors one by one, the first three, all, 512 (all vectors repeated), and all
    vectors once more. Providers have been seen that fix the batch size at the first inference, or answer every batch
    with the shape of the first one. A batch that would take more than 3 s is cut: all vectors are scored in parts, and
    in place of 512 come as many as take 3 s.

    Args:
        engine: opened with the bundle's model; has run nothing yet.
        bundle: an open bundle.

    Returns:
        The largest deviation of a score, as `golden_vectors.golden_deviation` measures it; 0 is exact.

    Raises:
        BundleError: the model has a state and the manifest says none, or reversed.
        GoldenError: a score is wrong, NaN or infinite, or an answer has another shape.
        EngineError: the runtime failed.
    """
    rows = np.arange(len(bundle.golden_readings))
    worst = max(_held(engine, bundle, rows[i : i + 1]) for i in range(len(rows))[:_SINGLES])
    worst = max(worst, _held_twice(engine, bundle, rows[:3]))
    if engine.most >= len(rows):
        worst = max(worst, _held_twice(engine, bundle, rows))
    many = min(LARGEST_BATCH, engine.most)
    if many > engine.largest:
        repeated = np.resize(rows, many)
        worst = max(worst, _held(engine, bundle, repeated))
        if many == LARGEST_BATCH > engine.most:
            worst = max(worst, _held(engine, bundle, repeated))  # as in `_held_twice`
    return max(worst, _held_in_parts(engine, bundle, rows))


def check_golden_quickly(engine: Engine, bundle: Bundle) -> float:
    """Check the first golden vector alone and all in one batch, for a provider that has passed `check_golden` before.

    Args:
        engine: opened with the bundle's model.
        bundle: an open bundle.

    Returns:
        As `check_golden`.

    Raises:
        GoldenError: a score is wrong, NaN or infinite, or an answer has another shape.
        EngineError: the runtime failed.
    """
    rows = np.arange(len(bundle.golden_readings))
    return max(_held(engine, bundle, rows[:1]), _held(engine, bundle, rows))


def _held_twice(engine: TimedEngine, bundle: Bundle, rows: NDArray[np.int64]) -> float:
    """The deviation of golden vectors in one batch; again if it was slow, because it may have compiled."""
    deviation = _held(engine, bundle, rows)
    return deviation if engine.most == LARGEST_BATCH else max(deviation, _held(engine, bundle, rows))


def _held_in_parts(engine: TimedEngine, bundle: Bundle, rows: NDArray[np.int64]) -> float:
    """The deviation of golden vectors, in one batch where that takes no longer than it may."""
    most = engine.most
    return max(_held(engine, bundle, rows[i : i + most]) for i in range(0, len(rows), most))


def _held(engine: Engine, bundle: Bundle, rows: NDArray[np.int64]) -> float:
    """The deviation of some golden vectors, by their numbers, in one batch."""
    states = bundle.golden_states
    found = engine.score(bundle.golden_readings[rows], None if states is None else states[rows])
    batch, channels = len(rows), len(bundle.manifest.channels)
    _check_array("score", found.score, (batch,))
    if found.contributions is not None:
        _check_array("contributions", found.contributions, (batch, channels))
    if (found.state is None) != (bundle.golden_next_states is None):
        has, says = ("a", "none") if found.state is not None else ("no", "one")
        raise BundleError(f"the model has {has} state, and the manifest says {says}; pack it again: edgetool pack")
    deviation = _deviation(bundle, found.score, bundle.golden_scores[rows])
    if found.state is not None and bundle.golden_next_states is not None:
        _check_array("next_state", found.state, (batch, bundle.manifest.model.state_size))
        off = state_deviation(found.state, bundle.golden_next_states[rows], bundle.golden_next_states)
        deviation = max(deviation, off)
    tolerance = bundle.manifest.golden.tolerance
    if not deviation <= tolerance:
        raise GoldenError(
            Verdict.WRONG,
            f"wrong scores in a batch of {batch}: off by {deviation:.3g} of the golden ones, "
            f"at most {tolerance:.3g} is allowed",
        )
    return deviation


def _deviation(bundle: Bundle, found: FloatArray, golden: FloatArray) -> float:
    # As `golden_deviation`, but the median size is of all golden scores, also if only a part of them was scored.
    size = np.abs(golden.astype(np.float64))
    # Not numpy's median, for which it imports 20 ms of code that nothing else here needs.
    least = max(statistics.median(np.abs(bundle.golden_scores.astype(np.float64)).tolist()), 1e-9)
    return float(np.max(np.abs(found.astype(np.float64) - golden) / np.maximum(size, least)))


def _check_array(name: str, found: FloatArray, expected: tuple[int, ...]) -> None:
    if found.shape != expected:
        raise GoldenError(
            Verdict.SHAPE, f"{name} has shape {found.shape} for a batch of {expected[0]}, expected {expected}"
        )
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise GoldenError(Verdict.NOT_A_NUMBER, f"{name} in a batch of {expected[0]}: {bad} of {found.size} no number")
