"""What a model with state is given back of its last answer for the same asset: its own last score, or a recurrence."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterable

import numpy as np

from edge_agent.errors import EngineError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine, Scores
from edge_agent.stream.outcome import WindowBatch

__all__ = ["ModelStates"]

log = logging.getLogger(__name__)

_SEEN = struct.Struct("<I")
_ARRAY_BYTES = 250  # of a small array, and of its place in a dict


class ModelStates:
    """The states of one stream's assets.

    An asset begins with zeros, and begins anew where its window does. Of a batch, the windows of one asset are scored
    one after the other, and those of different assets together.

    The first windows from zeros on only fill the state. Their scores say nothing yet, and are given to nobody.

    Args:
        stream: the stream's name, for the log.
        size: values in a state; at least 1.
        warm_up: number of such windows.
    """

    def __init__(self, stream: str, size: int, warm_up: int = 0) -> None:
        self._stream = stream
        self._warm_up = warm_up
        self._cold: dict[str, int] = {}
        """Of the assets that have had no window yet that counts: how many they have had."""
        self.passed_over = 0
        """Windows that only filled a state."""
        self.size = size
        """Values in a state."""
        self._zeros = np.zeros(size, dtype=np.float32)
        self._kept: dict[str, FloatArray] = {}
        self.not_kept = 0
        """Answers whose state was no number, so that the asset went on from the one before."""

    @property
    def asset_bytes(self) -> int:
        """Bytes that one asset takes."""
        return _ARRAY_BYTES + 4 * self.size

    def score(self, engine: Engine, windows: WindowBatch) -> tuple[WindowBatch, Scores]:
        """Score a batch of at least one window, and keep the states that follow.

        Returns:
            The windows that count, which may be none, and their scores.

        Raises:
            EngineError: the runtime failed, or gave no state; no state has changed.
        """
        after: dict[str, FloatArray] = {}
        parts: list[tuple[list[int], Scores]] = []
        not_kept = 0
        for rows in _turns(windows):
            before = [self._before(windows, row, after) for row in rows]
            given = before[0][np.newaxis] if len(rows) == 1 else np.stack(before)
            # A backlog of one asset is scored one by one, so a slice, which is made faster, is worth a line.
            values = windows.values[rows[0] : rows[0] + 1] if len(rows) == 1 else windows.values[rows]
            found = engine.score(values, given)
            states = found.state
            if states is None:
                raise EngineError(f"provider {found.provider}: the model gave no state")
            parts.append((rows, found))
            are_finite = np.isfinite(states)
            if not are_finite.all():
                # It would come back for ever.
                are_good = np.logical_and.reduce(are_finite, axis=1)
                not_kept += int(np.count_nonzero(~are_good))
                states = np.where(are_good[:, np.newaxis], states, given)
            for row, state in zip(rows, states, strict=True):
                after[windows.assets[row]] = state
        if not_kept and not self.not_kept:
            log.warning(
                "the model's state is no number, the one before is kept stream=%s count=%d", self._stream, not_kept
            )
        self.not_kept += not_kept
        # Copies, because each is a part of an array with those of others.
        new = [asset for asset in after if asset not in self._kept]
        self._kept.update((asset, state.copy()) for asset, state in after.items())
        scores = _joined(parts, len(windows))
        return (windows, scores) if not self._warm_up else self._warm(windows, scores, new)

    def _warm(self, windows: WindowBatch, scores: Scores, new: Iterable[str]) -> tuple[WindowBatch, Scores]:
        """Those of warm assets."""
        self._cold.update(dict.fromkeys(new, 0))
        if not self._cold and not windows.begun:
            return windows, scores
        warm: list[int] = []
        begun: set[int] = set()
        for row, asset in enumerate(windows.assets):
            if row in windows.begun:
                self._cold[asset] = 0
            seen = self._cold.get(asset)
            if seen is None:
                warm.append(row)
            elif seen < self._warm_up:
                self._cold[asset] = seen + 1
            else:
                del self._cold[asset]
                begun.add(len(warm))
                warm.append(row)
        self.passed_over += len(windows) - len(warm)
        shares = None if scores.contributions is None else scores.contributions[warm]
        kept = WindowBatch(
            windows.values[warm],
            [windows.assets[row] for row in warm],
            [windows.times[row] for row in warm],
            begun,
        )
        return kept, Scores(score=scores.score[warm], contributions=shares, provider=scores.provider)

    def _before(self, windows: WindowBatch, row: int, after: dict[str, FloatArray]) -> FloatArray:
        """What the model is given with a window."""
        if row in windows.begun:
            return self._zeros
        asset = windows.assets[row]
        state = after.get(asset)
        return self._kept.get(asset, self._zeros) if state is None else state

    def dump(self, asset: str) -> bytes:
        """The state of one asset for the journal; empty bytes if there is none."""
        state = self._kept.get(asset)
        return b"" if state is None else _SEEN.pack(self._cold.get(asset, self._warm_up + 1)) + state.tobytes()

    def restore(self, asset: str, dumped: bytes) -> None:
        """Put back the result of `dump`; one of another size is left out."""
        if len(dumped) == _SEEN.size + 4 * self.size:
            (seen,) = _SEEN.unpack_from(dumped)
            self._kept[asset] = np.frombuffer(dumped[_SEEN.size :], dtype=np.float32)
            if seen <= self._warm_up:
                self._cold[asset] = seen

    def forget(self, asset: str) -> None:
        """Drop an asset's state, if there is one: it begins with zeros again."""
        self._kept.pop(asset, None)
        self._cold.pop(asset, None)

    def describe(self) -> dict[str, int]:
        """For the health message."""
        return {
            "size": self.size,
            "not_kept": self.not_kept,
            "warm_up": self._warm_up,
            "passed_over": self.passed_over,
        }


def _turns(windows: WindowBatch) -> list[list[int]]:
    """The rows of the first window of each asset, those of the second, and so on."""
    turns: list[list[int]] = []
    nth: Counter[str] = Counter()
    for row, asset in enumerate(windows.assets):
        if nth[asset] == len(turns):
            turns.append([])
        turns[nth[asset]].append(row)
        nth[asset] += 1
    return turns


def _joined(parts: list[tuple[list[int], Scores]], count: int) -> Scores:
    """The scores of a batch from those of its turns."""
    if len(parts) == 1:
        return parts[0][1]
    _, first = parts[0]
    score = np.empty(count, dtype=np.float32)
    shares = None if first.contributions is None else np.empty((count, first.contributions.shape[1]), dtype=np.float32)
    for rows, found in parts:
        score[rows] = found.score
        if shares is not None and found.contributions is not None:
            shares[rows] = found.contributions
    return Scores(score=score, contributions=shares, provider=parts[-1][1].provider)
