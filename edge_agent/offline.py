"""Scores files with the code that scores a stream, so that an evaluation shows what the device will do."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle, Channel
from edge_agent.data_files import SensorData, in_batches
from edge_agent.errors import DataError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Engine, Scores
from edge_agent.running_median import RunningMedian
from edge_agent.stream.alarm_state import Transition
from edge_agent.stream.outcome import Outcome, WindowBatch
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.ranges import far_limits
from edge_agent.stream.settings import StreamSettings

__all__ = [
    "OfflineReport",
    "Scored",
    "Summary",
    "batch_rows",
    "check_times",
    "score_blocks",
    "score_data",
    "score_windows",
    "without_collector",
]

_BATCH_VALUES = 200_000
"""Values in all windows of a batch: under a megabyte. Handing a batch from core to core takes 0.1 to 0.2 ms, and a
batch that the processor's cache cannot hold is slower; docs/benchmarks.md has the sizes that were tried."""
_LEAST_ROWS, _MOST_ROWS = 512, 1 << 15
_COMPARED = 4096
"""Rows of a block of which the values are held against what a bundle knows: all take a thirtieth of the scoring."""
_AHEAD = 3
"""Batches that are scored or wait, beside the one whose events are made; more do not make it faster."""

_Ahead = tuple[WindowBatch, Future[Scores]]
"""A batch and its future scores."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch of windows, in the order of the readings that completed them, with all that their scores changed."""

    assets: Sequence[str]
    """The asset of each window."""
    times: Sequence[float]
    """Time of each window's last reading, epoch seconds; the row's number if the files have no times."""
    scores: FloatArray
    """Shape (windows,), float32; higher is more anomalous."""
    outcome: Outcome

    @property
    def has_events(self) -> bool:
        """True if `outcome` has an event."""
        return self.outcome.alerts is not None or bool(self.outcome.drift) or bool(self.outcome.released)


class Summary:
    """Counts what was scored, in memory that does not grow with it.

    Args:
        channels: of the bundle; values far outside of what it knows are counted. Empty counts none.
    """

    def __init__(self, channels: Sequence[Channel] = ()) -> None:
        self._channels = channels
        self._limits = far_limits(channels)
        self._far: NDArray[np.int64] = np.zeros(len(channels), dtype=np.int64)
        self._known: NDArray[np.int64] = np.zeros(len(channels), dtype=np.int64)
        self._started = time.perf_counter()
        self._kinds: Counter[str] = Counter()
        self._median = RunningMedian()
        self._max = -math.inf
        self._empty: dict[str, None] | None = None
        self._not_finite = 0
        self.rows = 0
        self.scored = 0

    def count_rows(self, blocks: Iterable[SensorData]) -> Iterator[SensorData]:
        """The same blocks, counted as they are taken."""
        for block in blocks:
            self.rows += len(block)
            if self._channels:
                self._compare(block.select(tuple(channel.name for channel in self._channels)).values)
            if self._empty is None or self._empty:
                nothing = np.flatnonzero(np.isnan(block.values).all(axis=0))
                names = [block.channels[place] for place in nothing.tolist()]
                self._empty = {name: None for name in names if self._empty is None or name in self._empty}
            yield block

    def add(self, batch: Scored) -> None:
        """Count a batch."""
        self.scored += len(batch.scores)
        self._not_finite += batch.outcome.not_finite
        self._kinds.update(batch.outcome.kinds())
        finite = batch.scores if not batch.outcome.not_finite else batch.scores[np.isfinite(batch.scores)]
        if finite.size:
            self._max = max(self._max, float(finite.max()))
            self._median.add(finite)

    def warnings(self, window: int) -> list[str]:
        """What is wrong with the readings, and why there are fewer scores or alerts than a user may expect.

        Args:
            window: rows in a window of the bundle.
        """
        most = np.flatnonzero(2 * self._far > self._known).tolist()
        found = [
            f"most values of channel {channel.name} are far outside of what the model has seen, {channel.min:.6g} to "
            f"{channel.max:.6g}; likely of another unit or scaling"
            for channel in (self._channels[place] for place in most)
        ]
        found += [f"channel {name} has no value in any row" for name in self._empty or ()]
        if not self.scored:
            found.append(
                f"nothing was scored: no asset has {window} readings in a row in which each channel has had a value"
            )
        if self._not_finite:
            found.append(f"{self._not_finite} scores are no number, and raise nothing")
        return found

    def _compare(self, values: NDArray[np.float64]) -> None:
        """Count values far outside of what the bundle knows, and those that are there; of a large block, some."""
        low, high = self._limits
        values = values[:: -(-len(values) // _COMPARED) or 1]
        is_far = values > high
        is_far |= values < low
        if is_far.any():
            self._far += np.count_nonzero(is_far, axis=0)
        self._known += len(values) - np.count_nonzero(np.isnan(values), axis=0)

    @property
    def seconds(self) -> float:
        """Time since counting began."""
        return time.perf_counter() - self._started

    def describe(self) -> dict[str, Any]:
        """One JSON document, without scores and events."""
        seconds = self.seconds
        kinds = self._kinds
        return {
            "rows": self.rows,
            "scored": self.scored,
            "raised": kinds[Transition.RAISE] + kinds[Transition.FLAPPING],
            "cleared": kinds[Transition.CLEAR],
            "score_median": self._median.value(),
            "score_max": self._max if math.isfinite(self._max) else None,
            "seconds": round(seconds, 3),
            "rows_per_s": round(self.rows / max(seconds, 1e-9)),
        }


@dataclass(slots=True)
class OfflineReport:
    """The result of scoring data as a whole.

    Attributes:
        rows: number of rows.
        scored: number of windows that were scored.
        outcomes: of the batches with alerts or drift, in order.
        scores: shape (scored,), float32, in order; higher is more anomalous.
        scored_of: for each batch, the assets and the times of its scores (epoch seconds; the row's number if the file
            has no times).
        seconds: time that scoring took, without reading the file and without making events of the alerts.
    """

    rows: int = 0
    scored: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    scores: FloatArray = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    scored_of: list[tuple[Sequence[str], Sequence[float]]] = field(default_factory=list)
    seconds: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)

    def events(self) -> Iterator[AlertEvent]:
        """The events of all batches, in order, each made when it is asked for."""
        for outcome in self.outcomes:
            yield from outcome.events

    def describe(self) -> dict[str, Any]:
        """A summary for one JSON document, without the scores."""
        return self.summary


def score_data(
    data: SensorData,
    bundle: Bundle,
    engine: Engine,
    *,
    helper: Engine | None = None,
    agent: str,
    stream: str,
    provider: str,
    settings: StreamSettings | None = None,
) -> OfflineReport:
    """Score rows as if they came one after the other, and keep all scores. The arguments are those of `score_blocks`.

    Raises:
        DataError: the data lack a channel of the bundle.
        EngineError: the runtime failed.
    """
    names = {"agent": agent, "stream": stream, "provider": provider}
    summary = Summary()
    report = OfflineReport()
    batches = score_blocks(summary.count_rows([data]), bundle, engine, helper=helper, settings=settings, **names)
    scores: list[FloatArray] = []
    for batch in batches:
        summary.add(batch)
        scores.append(batch.scores)
        report.scored_of.append((batch.assets, batch.times))
        if batch.has_events:
            report.outcomes.append(batch.outcome)
    report.rows, report.scored, report.summary = summary.rows, summary.scored, summary.describe()
    report.seconds = report.summary["seconds"]
    if scores:
        report.scores = np.concatenate(scores)
    return report


def score_blocks(
    blocks: Iterable[SensorData],
    bundle: Bundle,
    engine: Engine,
    *,
    helper: Engine | None = None,
    agent: str,
    stream: str,
    provider: str,
    settings: StreamSettings | None = None,
) -> Iterator[Scored]:
    """Score rows as if they came one after the other, a batch at a time.

    Args:
        blocks: rows that follow each other, with the channels of the bundle, in any order.
        bundle: an open bundle.
        engine: scores windows with the bundle's model; called on a thread of its own.
        helper: a second engine with the same model and provider; called on the caller's thread, when that thread would
            otherwise wait for `engine`. None waits.
        agent: the agent's id, for the events.
        stream: the stream's name, for the events.
        provider: the engine's provider, for the events.
        settings: how readings, scores and alarms are treated, None for the defaults; `join_s` has no effect.

    Yields:
        The batches in order. Their sizes, and so the scores to the last digit, do not depend on those of the blocks.

    Raises:
        DataError: the data lack a channel of the bundle or times that the settings need, or cannot be read.
        EngineError: the runtime failed.
    """
    manifest = bundle.manifest
    channels = tuple(channel.name for channel in manifest.channels)
    # A row is a whole reading, also if the stream's readings arrive one channel at a time.
    settings = None if settings is None else msgspec.structs.replace(settings, join_s=None)
    # Frozen values are told by a running agent only.
    settings = msgspec.structs.replace(settings or StreamSettings(), stuck_readings=0)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return
    if first.times is None:
        manifest = msgspec.structs.replace(manifest, interval_s=None)  # rows without a time have no pace to tell of
    pipeline = Pipeline(
        agent=agent, stream=stream, manifest=manifest, engine=engine, provider=provider, settings=settings
    )
    rows = batch_rows(manifest.window * len(channels))
    batches = in_batches(_selected(chain([first], blocks), channels, settings), rows)
    for windows, answer in _scored(pipeline, engine, helper, batches):
        yield Scored(windows.assets, windows.times, answer.score, pipeline.apply_scores(windows, answer))


@contextmanager
def without_collector() -> Iterator[None]:
    """A block in which Python looks for no cycles: scoring makes none, and looking takes a twentieth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_times(data: SensorData, settings: StreamSettings) -> None:
    """Refuse data without times where settings cannot do without.

    Raises:
        DataError: with the setting.
    """
    if settings.window.every_s and data.times is None:
        raise DataError(f"{data.path}: has no column 'time', and [stream.window] every_s makes readings by their times")


def _selected(
    blocks: Iterable[SensorData], channels: tuple[str, ...], settings: StreamSettings
) -> Iterator[SensorData]:
    for block in blocks:
        check_times(block, settings)
        yield block.select(channels)


def score_windows(
    pipeline: Pipeline, engine: Engine, batches: Iterable[Readings]
) -> Iterator[tuple[WindowBatch, Scores]]:
    """Yield the windows that readings complete with their scores, batch by batch, and make nothing of these.

    Args:
        pipeline: makes the windows.
        engine: scores them; called on a thread of its own.
        batches: in the order of their arrival.

    Raises:
        EngineError: the runtime failed.
    """
    return _scored(pipeline, engine, None, batches)


def batch_rows(values: int) -> int:
    """The number of rows to score at once, for a number of values in a window: few batches, none of them large."""
    return min(max(_BATCH_VALUES // values, _LEAST_ROWS), _MOST_ROWS)


def _scored(
    pipeline: Pipeline, engine: Engine, helper: Engine | None, batches: Iterable[Readings]
) -> Iterator[tuple[WindowBatch, Scores]]:
    """Yield each batch's windows with their scores.

    The runtime releases the interpreter's lock while it computes, so the next batch is scored while the caller makes
    alarms and events of this one. With a state, each score needs the one before.
    """
    if pipeline.has_state:
        for batch in batches:
            windows = pipeline.complete_windows(batch)
            if len(windows):
                yield pipeline.score(windows)
        return
    with ThreadPoolExecutor(max_workers=1) as beside:
        ahead: deque[_Ahead] = deque()
        for batch in batches:
            windows = pipeline.complete_windows(batch)
            if len(windows):
                ahead.append((windows, beside.submit(engine.score, windows.values)))
            if len(ahead) > _AHEAD:
                yield _first(ahead, helper)
        while ahead:
            yield _first(ahead, helper)


def _first(ahead: deque[_Ahead], helper: Engine | None) -> tuple[WindowBatch, Scores]:
    """Take out the first batch. Until its scores are ready, the helper scores batches that wait, the last one first."""
    done, answer = ahead.popleft()
    for place in reversed(range(len(ahead))):
        if helper is None or answer.done():
            break
        windows, awaited = ahead[place]
        if awaited.cancel():
            scored: Future[Scores] = Future()
            scored.set_result(helper.score(windows.values))
            ahead[place] = windows, scored
    return done, answer.result()
