"""Scores a file with the code that scores a stream, so that what is evaluated is what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.engine.session import Engine, Scores
from edge_agent.errors import DataError
from edge_agent.mqtt.payload import AlertEvent
from edge_agent.sources.file import SensorData
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.reading import FloatArray
from edge_agent.stream.settings import StreamSettings

__all__ = ["OfflineReport", "score_data", "write_scores"]

_BATCH_ROWS = 4096


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


class _Recorder:
    """An engine that keeps every score it gives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.scores: list[FloatArray] = []

    def score(self, windows: FloatArray) -> Scores:
        """See `Engine.score`."""
        answer = self._engine.score(windows)
        self.scores.append(answer.score)
        return answer


def score_data(
    data: SensorData,
    bundle: Bundle,
    engine: Engine,
    *,
    agent: str,
    stream: str,
    provider: str,
    settings: StreamSettings | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
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
        on_rows: called with the number of rows of every batch that is done.

    Raises:
        DataError: the data lack a channel of the bundle.
        EngineError: the runtime failed.
    """
    data = data.select(tuple(channel.name for channel in bundle.manifest.channels))
    recorder = _Recorder(engine)
    pipeline = Pipeline(
        agent=agent, stream=stream, manifest=bundle.manifest, engine=recorder, provider=provider, settings=settings
    )
    report = OfflineReport(rows=len(data))
    started = time.perf_counter()
    for batch in data.batches(_BATCH_ROWS):
        outcome = pipeline.process(batch)
        report.scored += outcome.scored
        report.events += outcome.events
        on_rows(len(batch))
    report.seconds = time.perf_counter() - started
    if recorder.scores:
        report.scores = np.concatenate(recorder.scores)
    return report


def write_scores(path: Path, report: OfflineReport) -> None:
    """Write one score on a line, with a header.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        np.savetxt(path, report.scores, fmt="%.9g", header="score", comments="")
    except OSError as exc:
        raise DataError(f"{path}: cannot be written ({exc.strerror})") from exc
