"""Scores a file with the code that scores a stream, so that an evaluation shows what the device will do."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.data_files import SensorData
from edge_agent.errors import DataError
from edge_agent.files.plain import replacing
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Engine, Scores
from edge_agent.messages.text import encode
from edge_agent.stream.alarm_state import Transition
from edge_agent.stream.outcome import Outcome, WindowBatch
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings

__all__ = ["OfflineReport", "has_several_batches", "score_data", "write_alerts", "write_scores"]

_BATCH_VALUES = 200_000
"""Values in all windows of a batch: under a megabyte. Handing a batch from core to core takes 0.1 to 0.2 ms, and a
batch that the processor's cache cannot hold is slower; docs/benchmarks.md has the sizes that were tried."""
_LEAST_ROWS, _MOST_ROWS = 512, 1 << 15
_AHEAD = 3
"""Batches that are scored or wait, beside the one whose events are made; more do not make it faster."""

_Ahead = tuple[WindowBatch, Future[Scores]]
"""A batch and its future scores."""


@dataclass(slots=True)
class OfflineReport:
    """The result of scoring a file.

    Attributes:
        rows: number of rows of the file.
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

    def events(self) -> Iterator[AlertEvent]:
        """The events of all batches, in order, each made when it is asked for."""
        for outcome in self.outcomes:
            yield from outcome.events

    def describe(self) -> dict[str, Any]:
        """A summary for one JSON document, without the scores."""
        finite = self.scores[np.isfinite(self.scores)]
        kinds = Counter(kind for outcome in self.outcomes for kind in outcome.kinds())
        return {
            "rows": self.rows,
            "scored": self.scored,
            "raised": kinds[Transition.RAISE] + kinds[Transition.FLAPPING],
            "cleared": kinds[Transition.CLEAR],
            "score_median": float(np.median(finite)) if finite.size else None,
            "score_max": float(finite.max()) if finite.size else None,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows / max(self.seconds, 1e-9)),
        }


def has_several_batches(data: SensorData, bundle: Bundle) -> bool:
    """True if the data are scored in more than one batch, so that a helper has work."""
    return len(data) > _batch_rows(bundle.manifest.window * len(bundle.manifest.channels))


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
    """Score rows as if they came one after the other.

    Args:
        data: must have the channels of the bundle, in any order.
        bundle: an open bundle.
        engine: scores windows with the bundle's model; called on a thread of its own.
        helper: a second engine with the same model and provider; called on the caller's thread, when that thread would
            otherwise wait for `engine`. None waits.
        agent: the agent's id, for the events.
        stream: the stream's name, for the events.
        provider: the engine's provider, for the events.
        settings: how readings, scores and alarms are treated, None for the defaults; `join_s` has no effect.

    Raises:
        DataError: the data lack a channel of the bundle, or times that the settings need.
        EngineError: the runtime failed.
    """
    data = data.select(tuple(channel.name for channel in bundle.manifest.channels))
    # A row is a whole reading, also if the stream's readings arrive one channel at a time.
    settings = None if settings is None else msgspec.structs.replace(settings, join_s=None)
    # Frozen values are told by a running agent only.
    settings = msgspec.structs.replace(settings or StreamSettings(), stuck_readings=0)
    pipeline = Pipeline(
        agent=agent, stream=stream, manifest=bundle.manifest, engine=engine, provider=provider, settings=settings
    )
    if settings.window.every_s and data.times is None:
        raise DataError(f"{data.path}: has no column 'time', and [stream.window] every_s makes readings by their times")
    report = OfflineReport(rows=len(data))
    scores: list[FloatArray] = []
    started = time.perf_counter()
    batches = data.batches(_batch_rows(bundle.manifest.window * len(data.channels)))
    for windows, answer in _scored(pipeline, engine, helper, batches):
        outcome = pipeline.apply_scores(windows, answer)
        report.scored += outcome.scored
        if outcome.alerts is not None or outcome.drift or outcome.released:
            report.outcomes.append(outcome)
        scores.append(answer.score)
        report.scored_of.append((windows.assets, windows.times))
    report.seconds = time.perf_counter() - started
    if scores:
        report.scores = np.concatenate(scores)
    return report


def _batch_rows(values: int) -> int:
    """The number of rows to score at once, for a number of values in a window: few batches, none of them large."""
    return min(max(_BATCH_VALUES // values, _LEAST_ROWS), _MOST_ROWS)


def _scored(
    pipeline: Pipeline, engine: Engine, helper: Engine | None, batches: Iterable[Readings]
) -> Iterator[tuple[WindowBatch, Scores]]:
    """Yield each batch's windows with their scores.

    The runtime releases the interpreter's lock while it computes, so the next batch is scored while the caller makes
    alarms and events of this one.
    """
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


def write_scores(path: Path, report: OfflineReport) -> None:
    """Write each score with its asset and time as a line of CSV, after a header.

    Raises:
        DataError: the file cannot be written.
    """
    times = chain.from_iterable(times for _, times in report.scored_of)
    assets = chain.from_iterable(assets for assets, _ in report.scored_of)
    with _written(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("time", "asset", "score"))
        writer.writerows(zip(times, assets, map("{:.9g}".format, report.scores.tolist()), strict=True))


def write_alerts(path: Path, report: OfflineReport) -> None:
    """Write each event as a line of JSON, as it would be published.

    Raises:
        DataError: the file cannot be written.
    """
    with _written(path) as file:
        for event in report.events():
            file.write(encode(event).decode() + "\n")


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    try:
        with replacing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield text
            # Detached, because the wrapper would otherwise close the file before `replacing` synchronises it.
            text.detach()
    except OSError as exc:
        raise DataError(f"{path}: cannot be written ({exc.strerror})") from exc
