"""Scores a file with the code that scores a stream, so that what is evaluated is what runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.engine.session import Engine, Scores
from edge_agent.errors import DataError
from edge_agent.mqtt.payload import AlertEvent
from edge_agent.sources.file import SensorData
from edge_agent.stream.pipeline import Pipeline, WindowBatch
from edge_agent.stream.reading import FloatArray, Readings
from edge_agent.stream.settings import StreamSettings

__all__ = ["OfflineReport", "score_data", "write_scores"]

_BATCH_ROWS = 4096
_AHEAD = 2
"""Batches in work beside the one whose events are made; one more than that makes nothing faster."""


@dataclass(slots=True)
class OfflineReport:
    """What a file gave.

    Attributes:
        rows: of the file.
        scored: windows.
        events: alerts, in order.
        scores: shape (scored,), in order; higher is more anomalous.
        seconds: of scoring, without reading the file.
    """

    rows: int = 0
    scored: int = 0
    events: list[AlertEvent] = field(default_factory=list)
    scores: FloatArray = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    seconds: float = 0.0

    def describe(self) -> dict[str, Any]:
        """As one JSON document, without the scores."""
        finite = self.scores[np.isfinite(self.scores)]
        return {
            "rows": self.rows,
            "scored": self.scored,
            "raised": sum(event.event in ("raise", "flapping") for event in self.events),
            "cleared": sum(event.event == "clear" for event in self.events),
            "score_median": float(np.median(finite)) if finite.size else None,
            "score_max": float(finite.max()) if finite.size else None,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows / max(self.seconds, 1e-9)),
        }


def score_data(
    data: SensorData,
    bundle: Bundle,
    engine: Engine,
    *,
    agent: str,
    stream: str,
    provider: str,
    settings: StreamSettings | None = None,
) -> OfflineReport:
    """Score rows as if they came one after the other.

    Args:
        data: its channels are those of the bundle, in any order.
        bundle: an open bundle.
        engine: scores windows of that bundle.
        agent: told in every event, as are the next two.
        stream: its name.
        provider: the engine's.
        settings: how readings, scores and alarms are treated.

    Raises:
        DataError: the data lack a channel of the bundle.
        EngineError: the runtime failed.
    """
    data = data.select(tuple(channel.name for channel in bundle.manifest.channels))
    pipeline = Pipeline(
        agent=agent, stream=stream, manifest=bundle.manifest, engine=engine, provider=provider, settings=settings
    )
    report = OfflineReport(rows=len(data))
    scores: list[FloatArray] = []
    started = time.perf_counter()
    for windows, answer in _scored(pipeline, engine, data.batches(_BATCH_ROWS)):
        outcome = pipeline.conclude(windows, answer)
        report.scored += outcome.scored
        report.events += outcome.events
        scores.append(answer.score)
    report.seconds = time.perf_counter() - started
    if scores:
        report.scores = np.concatenate(scores)
    return report


def _scored(pipeline: Pipeline, engine: Engine, batches: Iterable[Readings]) -> Iterator[tuple[WindowBatch, Scores]]:
    """Each batch's windows with their scores.

    The runtime lets go of the interpreter while it computes, so the next batch is scored while the caller makes alarms
    and events of this one.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        ahead: deque[tuple[WindowBatch, Future[Scores]]] = deque()
        for batch in batches:
            windows = pipeline.take(batch)
            if len(windows):
                ahead.append((windows, beside.submit(engine.score, windows.values)))
            if len(ahead) > _AHEAD:
                done, answer = ahead.popleft()
                yield done, answer.result()
        for done, answer in ahead:
            yield done, answer.result()


def write_scores(path: Path, report: OfflineReport) -> None:
    """Write one score on a line, with a header.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        np.savetxt(path, report.scores, fmt="%.9g", header="score", comments="")
    except OSError as exc:
        raise DataError(f"{path}: cannot be written ({exc.strerror})") from exc
