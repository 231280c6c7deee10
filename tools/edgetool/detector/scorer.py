"""Scores windows with the models of one command, each with the state that it was left with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.head import PREFIX
from edgetool.detector.runs import ModelRuns
from edgetool.detector.state import NEXT_STATE, STATE, Link
from edgetool.graph.weights import to_bytes
from edgetool.verify.arrays import Sample

__all__ = ["Scorer"]


class Scorer:
    """Runs a model on its way to a bundle, and as it is there.

    Args:
        path: of the model, for the texts of errors.
        runs: of the command.
        links: what the model takes of its own last answer; none of one that is canonical.
        state_size: values that it takes in all; 0 without state.
        asked: the output that the user names.
    """

    def __init__(
        self, path: Path, runs: ModelRuns, links: tuple[Link, ...], state_size: int, asked: str | None
    ) -> None:
        self._path = path
        self._runs = runs
        # With the batch on another axis it can be nothing else; every other state may be a score or a reconstruction.
        self._made = {PREFIX + link.made for link in links if link.axis} - {PREFIX + (asked or "")}
        self._state_size = state_size

    @property
    def has_state(self) -> bool:
        """The model takes some of its own last answer."""
        return self._state_size > 0

    def answers(
        self,
        model: bytes,
        windows: FloatArray,
        states: FloatArray | None = None,
        *,
        before: NDArray[np.int64] | None = None,
        with_states: bool = True,
    ) -> tuple[FloatArray, FloatArray | None]:
        """The scores of a canonical model, and what it gives to be given back.

        Args:
            model: an ONNX file's bytes.
            windows: shape (n, window, channels).
            states: shape (n, size), what it takes with each; zeros when not given.
            before: shape (n,), as for `ModelRuns.outputs`.
            with_states: as for `ModelRuns.outputs`.

        Returns:
            Shapes (n,) and (n, size); no states of a model without.

        Raises:
            ConversionError: the model does not run, or fixes its batch.
        """
        found = self._outputs(model, windows, states, before, with_states=with_states)
        score = found["score"]
        if score.shape != (len(windows),):
            raise ConversionError(
                f"{self._path}: score has shape {score.shape} for {len(windows)} windows; the model fixes its batch"
            )
        return score.astype(np.float32), found.get(NEXT_STATE)

    def try_out(self, model: onnx.ModelProto, windows: FloatArray, before: NDArray[np.int64] | None = None) -> Sample:
        """All answers of a fed model that may be its score: without `next_state`, and what can be a state only."""
        answers = self._outputs(to_bytes(model, self._path), windows, None, before, with_states=before is None)
        rest = {name: values for name, values in answers.items() if name != NEXT_STATE}
        return {name: values for name, values in rest.items() if name not in self._made} or rest

    def one_by_one(self, model: onnx.ModelProto, samples: Sequence[Sample]) -> list[Sample]:
        """All outputs of any model, fed or not, for each of some samples of its inputs; states are zeros if it asks."""
        asks = any(value.name == STATE for value in model.graph.input)
        zeros = {STATE: np.zeros((1, self._state_size), dtype=np.float32)} if asks else {}
        return self._runs.each(to_bytes(model, self._path), [{**sample, **zeros} for sample in samples])

    def _outputs(
        self,
        model: bytes,
        windows: FloatArray,
        states: FloatArray | None,
        before: NDArray[np.int64] | None,
        *,
        with_states: bool,
    ) -> Sample:
        if self._state_size and states is None:
            rows = len(windows) if before is None else 1
            states = np.zeros((rows, self._state_size), dtype=np.float32)
        return self._runs.outputs(model, windows, states=states, before=before, with_states=with_states)
