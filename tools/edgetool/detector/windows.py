"""The normal windows of a command's data, that a model is tried on and the limits are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edge_agent.messages.reading import FloatArray
from edge_agent.stream.window_settings import WindowSettings
from edgetool.choices import HeadKind
from edgetool.data import SensorData, normal_windows, predecessors
from edgetool.detector.frame import Frame
from edgetool.detector.head import Head
from edgetool.detector.meanings import FURTHER
from edgetool.detector.missing import PASSES_MISSING, MissingPolicy

__all__ = ["NormalWindows", "rows_ahead_of"]

_TRIED, _FEWEST = 2048, 128
"""Windows that heads are tried on, and of large ones at least."""
_TRIED_VALUES = 1 << 25
"""Of all of these together: 128 MB."""


@dataclass(frozen=True, slots=True)
class NormalWindows:
    """Makes normal windows of any length, of shape (n, window, channels), as the agent makes them."""

    rows: SensorData
    """All, with those that are labelled."""
    stride: int
    """Readings from one window to the next."""
    has_state: bool
    """The model's answer for one is part of what it takes with the next."""
    missing: MissingPolicy | None
    """What is done about missing values; None where the last ones are held, as always with state."""

    @property
    def policy(self) -> WindowSettings | None:
        """How the windows are made that the graph is given; None holds the last values."""
        return None if self.missing is None else PASSES_MISSING

    @property
    def have_holes(self) -> bool:
        """True if the graph is given missing values, and there are some: then `whole` and `given` are others."""
        return self.missing is not None and bool(np.isnan(self.rows.values).any())

    def whole(self, window: int, most: int | None = None) -> FloatArray:
        """Windows in which no value is missing: where some were, as the graph has them, or held. There may be none.

        Args:
            window: rows in a window.
            most: of more than so many, as many from all over the data.
        """
        if self.missing is None or self.missing.fill is None:
            return normal_windows(self.rows, window=window, stride=self.stride, most=most)
        return self.missing.filled(self.given(window, most))

    def some(self, window: int) -> FloatArray:
        """The same, at least one.

        Raises:
            DataError: the data complete none.
        """
        windows = self.whole(window)
        if not len(windows):
            self._refuse(window)
        return windows

    def given(self, window: int, most: int | None = None) -> FloatArray:
        """Windows as the device scores them: where values are missing, that is NaN if the graph takes it."""
        return normal_windows(self.rows, window=window, stride=self.stride, policy=self.policy, most=most)

    def before(self, window: int) -> NDArray[np.int64] | None:
        """As `predecessors`; None without state, where the order does not matter."""
        return predecessors(self.rows, window=window, stride=self.stride) if self.has_state else None

    def all_before(self, window: int) -> NDArray[np.int64] | None:
        """The same of the windows of all rows."""
        return predecessors(self.rows, window=window, stride=self.stride, normal=False) if self.has_state else None

    def tried(self, frame: Frame, *, ahead: int, is_given: bool) -> tuple[FloatArray, NDArray[np.int64] | None, Frame]:
        """Some from all over the data, with rows behind those that are seen; with state, which leads on, the first.

        Args:
            frame: of the rows that are seen.
            ahead: rows behind them; fewer, where there are not so many and they are not given.
            is_given: the user has said how many.

        Returns:
            The windows, in which no value is missing, what is `before` each, and the frame with the rows that are
            behind.

        Raises:
            DataError: there is none.
        """
        for rows_behind in (ahead,) if is_given else (ahead, ahead - FURTHER, 0):
            rows = frame.seen + max(rows_behind, 0)
            few = max(_FEWEST, min(_TRIED, _TRIED_VALUES // (rows * len(self.rows.channels))))
            windows = self.whole(rows, None if self.has_state else few)
            if len(windows):
                break
        else:
            self._refuse(frame.seen + ahead)
        frame = replace(frame, ahead=max(rows_behind, 0))
        before = self.before(frame.window)
        if before is not None:
            return windows[:_TRIED], before[:_TRIED], frame
        return windows, None, frame

    def _refuse(self, window: int) -> NoReturn:
        labels = self.rows.labels
        normal = len(self.rows) if labels is None else int(np.count_nonzero(labels == 0))
        cut = "" if normal == len(self.rows) else " without a labelled row in it"
        raise DataError(f"{self.rows.path}: {normal} normal rows complete no window of {window}{cut}")


def rows_ahead_of(head: Head, horizon: int | None) -> int:
    """Rows behind those that the model sees, up to the last one that its answer is about.

    Args:
        head: what the answer is.
        horizon: what the user has said.
    """
    if head.kind is HeadKind.FORECAST:
        return horizon or head.rows
    return (horizon or 0) if head.kind is HeadKind.RESIDUAL else 0
