"""The scaling that an answer fits once it is scaled back: an author often leaves that to code behind the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.messages.reading import FloatArray
from edgetool.detector.head import Head, reconstruct
from edgetool.detector.scaling import Scaling
from edgetool.verify.saturated import saturated
from edgetool.verify.scores import poor_channels, unlike_channels, usual_error

__all__ = ["ScaledBack", "error_of", "scaled_back"]


@dataclass(frozen=True, slots=True)
class ScaledBack:
    """An answer in the units of the channels."""

    word: str
    """By which `--unscale` names the scaling."""
    error: float
    """As `error_of` has it."""
    in_words: str
    """That it fits, and what to say."""


def error_of(answer: NDArray[np.float64], target: FloatArray) -> float:
    """The median over the channels of an answer's usual error, in spreads of each.

    Args:
        answer: shape (n, rows, channels), in channel units.
        target: what it is held against, of the same shape.
    """
    usual = usual_error(answer, target)
    spread = target.reshape(-1, target.shape[-1]).std(axis=0, dtype=np.float64)
    return float(np.median(usual / np.where(spread > 0, spread, usual)))


def scaled_back(
    head: Head, values: NDArray[np.floating], target: FloatArray, scalings: Sequence[tuple[str, Scaling]]
) -> ScaledBack | None:
    """The first scaling that an answer fits; None if none does.

    Args:
        head: of an error.
        values: the output.
        target: the readings that it is held against, shape (n, rows, channels).
        scalings: that are tried, each behind the word that names it.
    """
    for word, scaling in scalings:
        answer = reconstruct(replace(head, unscale=scaling), values, target)
        flat = saturated([{head.name: answer}], [{"readings": target}], is_reconstruction=True)
        # What hovers about 0 is never far from scaled readings, so it must be nearer to them than their mean is.
        off = unlike_channels(answer, target) | poor_channels(answer, target)
        if not flat and off.mean() <= 0.5:
            told = f"It fits once it is scaled back by {scaling.origin}: --unscale {word}"
            return ScaledBack(word, error_of(answer, target), told)
    return None
