"""Normal windows in their order, each scored with what the model left with the one before."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.scorer import Scorer
from edgetool.detector.warm_up import WarmUp, measure_warm_up, places_in_chain

__all__ = ["Chain"]


class Chain:
    """The windows of one command, for a model with state.

    Args:
        scorer: runs the model.
        windows: shape (n, window, channels).
        before: shape (n,), as `data.predecessors`.
    """

    def __init__(self, scorer: Scorer, windows: FloatArray, before: NDArray[np.int64]) -> None:
        self._scorer = scorer
        self._all = windows
        self._before = before
        self.is_warm: NDArray[np.bool_] = np.ones(len(windows), dtype=bool)
        """Which windows count, of those that were given: shape (n,)."""
        self.warm_up = WarmUp(0, 0, is_settled=True)
        """How many windows only fill the state, from zeros on."""

    @property
    def windows(self) -> FloatArray:
        """Those that count."""
        return self._all[self.is_warm]

    def warm(self, model: bytes) -> None:
        """Measure how many windows only fill the state of a model, and leave these out from now on.

        Raises:
            DataError: no other is left.
        """
        scores = self._run(self._all, self._before, model)
        found = measure_warm_up(partial(self._run, model=model), self._all, self._before, scores)
        self.warm_up = found
        self.is_warm = places_in_chain(self._before) >= found.windows
        if not self.is_warm.any():
            raise DataError(
                f"the state needs {found.windows} windows of an asset in a row before its scores mean something, and "
                "the data have no longer ones; give data of fewer assets over a longer time"
            )

    def scores(self, model: bytes) -> FloatArray:
        """Of the windows that count: shape (m,)."""
        return self._run(self._all, self._before, model)[self.is_warm]

    def states(self, model: bytes) -> FloatArray:
        """What the model is given back with each of these: shape (m, size)."""
        _, after = self._scorer.answers(model, self._all, before=self._before)
        assert after is not None
        return np.where(self._before[:, np.newaxis] < 0, np.float32(0), after[self._before])[self.is_warm]

    def scores_of(self, model: bytes, windows: FloatArray, before: NDArray[np.int64]) -> FloatArray:
        """Of other windows in their order, NaN where they only fill the state: shape (n,)."""
        found = self._run(windows, before, model).copy()
        found[places_in_chain(before) < self.warm_up.windows] = np.nan
        return found

    def _run(self, windows: FloatArray, before: NDArray[np.int64], model: bytes) -> FloatArray:
        return self._scorer.answers(model, windows, before=before, with_states=False)[0]
