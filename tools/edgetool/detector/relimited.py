"""What a new limit of a bundle does to the faults that its limit so far shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle, Threshold
from edge_agent.errors import ConversionError, EngineError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine
from edgetool.detector.trial import LASTS, RATES, MadeUp, Trial, make_up

__all__ = ["made_up_for", "silenced"]

_WINDOWS = 1000
_BATCH = 1024


def made_up_for(
    bundle: Bundle, engine: Engine, values: NDArray[np.floating], places: NDArray[np.int64], scores: FloatArray
) -> MadeUp:
    """Made-up faults as the bundle scores them; a state begins with zeros.

    Args:
        bundle: what scores.
        engine: of it.
        values: shape (rows, channels), those of each asset together, in the bundle's channels.
        places: shape (n,), the row of `values` that completes each normal window.
        scores: shape (n,), of these.
    """
    some = np.unique(np.linspace(0, len(places) - 1, _WINDOWS).astype(int))
    window = bundle.manifest.window
    made = values[np.maximum(places[some][:, np.newaxis] + np.arange(1 - window, 1), 0)].astype(np.float32)
    # What is missing is held on the device; for a fault beside it, the channel's mean is as good.
    known = np.isfinite(made)
    mean = np.where(known, made, 0).sum(axis=(0, 1)) / np.maximum(known.sum(axis=(0, 1)), 1)
    made = np.where(known, made, mean).astype(np.float32)

    lasts = LASTS if bundle.manifest.model.state_size else 1

    def score(windows: FloatArray, _: FloatArray | None) -> FloatArray:
        try:
            return np.concatenate(
                [_highest(engine, windows[at : at + _BATCH], lasts) for at in range(0, len(windows), _BATCH)]
            )
        except EngineError as exc:
            raise ConversionError(str(exc)) from exc

    return make_up(score, made, scores[some])


def _highest(engine: Engine, windows: FloatArray, lasts: int) -> FloatArray:
    """The highest score of each window that comes so many times."""
    found: list[FloatArray] = []
    state: FloatArray | None = None
    for _ in range(lasts):
        answer = engine.score(windows, state)
        state = answer.state
        found.append(answer.score)
    highest: FloatArray = np.stack(found).max(axis=0)
    return highest


def silenced(
    faults: MadeUp, *, before: Threshold, after: Threshold, rate: float, limit_of: Callable[[float], float]
) -> str | None:
    """Why a new limit would silence a bundle that was not silent, with what these readings allow; None if it does not.

    Args:
        faults: of the bundle.
        before: its limits so far.
        after: the new ones.
        rate: false-alarm rate that they are made for.
        limit_of: the alarm limit for another rate.
    """
    old, new = faults.at(before.alarm), faults.at(after.alarm)
    if not _is_lost(old, new):
        return None
    step = (
        "no higher rate helps: these readings score other than those that the bundle was packed with; pack it again "
        "with them, or keep the limit so far"
    )
    for other in (other for other in RATES if other > rate):
        limit = limit_of(other)
        if limit < after.alarm and not _is_lost(old, faults.at(limit)):
            step = f"--false-alarm-rate {other:g} gives {limit:.4g}, which they reach"
            break
    return (
        f"the limit {after.alarm:.4g} for a rate of {rate:.3g} would silence the bundle: made-up faults reach the "
        f"limit so far, {before.alarm:.4g} ({old.in_words}), and not this one ({new.in_words}); {step}"
    )


def _is_lost(old: Trial, new: Trial) -> bool:
    """The trial was passed and is no more; or a bundle that was taken though it is weak finds nothing at all."""
    return (new.is_weak and not old.is_weak) or (new.most == 0 < old.most)
