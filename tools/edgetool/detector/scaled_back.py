"""The scaling that an answer fits once it is scaled back: an author often leaves that to code behind the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgetool.detector.head import Head, reconstruct
from edgetool.detector.scaling import Scaling
from edgetool.verify.saturated import saturated
from edgetool.verify.scores import Normal

__all__ = ["ScaledBack", "scaled_back"]


@dataclass(frozen=True, slots=True)
class ScaledBack:
    """An answer in the units of the channels."""

    word: str
    """By which `--unscale` names the scaling."""
    error: float
    """As `Normal.in_spreads` has it."""
    in_words: str
    """That it fits, and what to say."""


def scaled_back(
    head: Head, values: NDArray[np.floating], target: Normal, scalings: Sequence[tuple[str, Scaling]]
) -> ScaledBack | None:
    """The first scaling that an answer fits; None if none does.

    Args:
        head: of an error.
        values: the output.
        target: the readings that it is held against, shape (n, rows, channels).
        scalings: that are tried, each behind the word that names it.
    """
    for word, scaling in scalings:
        answer = reconstruct(replace(head, unscale=scaling), values, target.values)
        flat = saturated([{head.name: answer}], [{"readings": target.values}], is_reconstruction=True)
        # What hovers about 0 is never far from scaled readings, so it must be nearer to them than their mean is.
        usual = target.usual_error(answer)
        off = target.unlike(usual) | target.poor(usual)
        if not flat and off.mean() <= 0.5:
            told = f"It fits once it is scaled back by {scaling.origin}: --unscale {word}"
            return ScaledBack(word, target.in_spreads(usual), told)
    return None
