"""Which output of a model is the score, and what has to be done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import HigherIs, OutputIs
from edgetool.detector.direction import Sign, sign_of_error, sign_of_score
from edgetool.verify.arrays import Sample
from edgetool.verify.finite import unanswered
from edgetool.verify.scores import is_like, unlike_channels, usual_error

__all__ = ["PREFIX", "Head", "Meaning", "as_windows", "choose_head"]

PREFIX = "model/"
"""Stands before every name of the model, so that no name that we add is taken."""


class Meaning(StrEnum):
    """What an output is."""

    SCORE = "score"
    RECONSTRUCTION = "reconstruction"


@dataclass(frozen=True, slots=True)
class Head:
    """How an output becomes the score."""

    output: str
    meaning: Meaning
    sign: Sign
    scale: FloatArray | None
    """Usual error of a reconstruction (root mean square) on normal rows: shape (channels,), in channel units."""
    channels_first: bool = False
    """True if a reconstruction has the channels of a window before its rows."""

    @property
    def name(self) -> str:
        """The output as the model's author knows it."""
        return self.output.removeprefix(PREFIX)


def choose_head(
    answers: Sample,
    windows: FloatArray,
    *,
    output: str | None,
    output_is: OutputIs,
    higher_is: HigherIs,
    labels: Mapping[str, str],
    channels_first: bool,
) -> Head:
    """Find out which output is the score, and what has to be done to it.

    Args:
        answers: the model's outputs for `windows`.
        windows: shape (n, window, channels), normal readings.
        output: the output to take; None finds it.
        output_is: what it is, where its shape leaves it open.
        higher_is: which way a score points.
        labels: from `sklearn_scores`.
        channels_first: the model takes a window so.

    Raises:
        ConversionError: no output, or more than one, can be the score; or a reconstruction is not one of the input.
        UsageError: the output is a reconstruction, which points nowhere, and `higher_is` says normal.
    """
    answers = {name.removeprefix(PREFIX): values for name, values in answers.items()}
    meanings = {name: _meanings(values, windows, output_is) for name, values in answers.items()}
    shown = ", ".join(f"{name} {values.dtype}{list(values.shape)}" for name, values in answers.items())
    if output is not None and not meanings.get(output):
        raise ConversionError(f"output {output!r} is neither a score nor a reconstruction; the model has: {shown}")
    scores = [name for name, found in meanings.items() if Meaning.SCORE in found]
    reconstructions = [name for name, found in meanings.items() if Meaning.RECONSTRUCTION in found]
    candidates = [output] if output else scores or reconstructions
    if len(candidates) != 1:
        raise ConversionError(f"which output is the score? name it with --output-name; the model has: {shown}")
    name = candidates[0]
    if len(meanings[name]) > 1:
        raise ConversionError(f"output {name!r} may be a score or a reconstruction; say it with --output-is")
    if Meaning.SCORE in meanings[name]:
        label = answers.get(labels.get(name, ""))
        return Head(PREFIX + name, Meaning.SCORE, sign_of_score(answers[name], label, higher_is), scale=None)
    first = _is_channels_first(answers[name], windows, channels_first)
    scale = _usual_error(name, as_windows(answers[name], windows.shape, channels_first=first), windows)
    return Head(PREFIX + name, Meaning.RECONSTRUCTION, sign_of_error(name, higher_is), scale, first)


def as_windows(answer: NDArray[Any], shape: tuple[int, ...], *, channels_first: bool) -> NDArray[Any]:
    """A reconstruction in the shape of windows.

    Args:
        answer: with as many values.
        shape: of the windows, (n, window, channels).
        channels_first: it has the channels of a window before its rows.
    """
    count, window, channels = shape
    return answer.reshape(count, channels, window).transpose(0, 2, 1) if channels_first else answer.reshape(shape)


def _is_channels_first(values: NDArray[Any], windows: FloatArray, channels_first: bool) -> bool:
    """How a reconstruction lies: as its shape says or, where that leaves it open, as the input does."""
    _, window, channels = windows.shape
    inner = tuple(n for n in values.shape[1:] if n != 1)
    if window == 1 or channels == 1:
        return False
    if window != channels and len(inner) == 2:
        return inner == (channels, window)
    return channels_first


def _meanings(values: NDArray[Any], windows: FloatArray, output_is: OutputIs) -> set[Meaning]:
    """What an output can be, by its type and shape and by what the user says."""
    found: set[Meaning] = set()
    if values.dtype.kind == "f" and values.size == len(windows):
        found.add(Meaning.SCORE)
    # Some exporters flatten a reconstruction; its values are all there, in order.
    if values.dtype.kind == "f" and values.size == windows.size:
        found.add(Meaning.RECONSTRUCTION)
    return found if output_is is OutputIs.AUTO else found & {Meaning(output_is.value)}


def _usual_error(name: str, values: NDArray[Any], windows: FloatArray) -> FloatArray:
    usual = usual_error(values, windows)
    for each in unanswered([{name: values}], [{"readings": windows}]):
        raise ConversionError(f"output {each.in_words()}")
    if not is_like(usual, windows):
        unlike = unlike_channels(usual, windows)
        raise ConversionError(
            f"output {name!r} has the input's shape and not its values (off by more than twice the spread in "
            f"{int(unlike.sum())} of {len(unlike)} channels): if the model works on scaled readings, put the scaling "
            "into it and let it answer in sensor units"
        )
    return usual.astype(np.float32)
