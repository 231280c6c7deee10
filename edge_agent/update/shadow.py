"""Scores the same readings as a running stream with another bundle, in a process of its own, and raises nothing.

`python -m edge_agent.update.shadow PARENT`, with the parent's process id, reads one `ShadowTask` as a line of JSON from
stdin and answers with an empty `ShadowReport` once the model is loaded. Then each `Block` follows as its length in four
bytes and MessagePack; to one that asks, the answer is a report of all that was done so far.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import child_side
from edge_agent.engine.providers import Provider
from edge_agent.engine.session import open_engine
from edge_agent.errors import EdgeError
from edge_agent.files.shared_library import Library
from edge_agent.messages.reading import Readings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.recent import RecentScores
from edge_agent.stream.settings import StreamSettings
from edge_agent.update.comparison import Deeds

__all__ = ["Block", "ShadowReport", "ShadowTask"]

_TIMED_KEPT = 256
_ASSETS_KEPT = 200


class ShadowTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to score with."""

    bundle: str
    """Path of the file, which is proven."""
    provider: Provider
    threads: int
    cache_dir: str | None
    libraries: tuple[Library, ...]
    settings: StreamSettings
    stream: str
    width: int
    """Number of the channels of the running bundle."""
    columns: list[int]
    """Where each channel of this bundle stands among those."""


class Block(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Some readings of the stream, in order."""

    assets: list[str]
    times: bytes
    """float64, epoch seconds."""
    values: bytes
    """float32, (n, channels), before missing values are held."""
    anew: bool
    """They do not follow those of the block before."""
    timed_from: int
    timed_to: int
    """These rows were a batch of the running stream, and are timed as one; none where both are 0."""
    asks: bool
    """A report is wanted."""


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done so far."""

    deeds: Deeds
    problem: str = ""
    """Why it cannot go on; then it is the last report."""


class _Shadow:
    """The other model at work."""

    def __init__(self, bundle: Bundle, task: ShadowTask) -> None:
        self._width, self._columns = task.width, task.columns
        self._is_as_it_comes = task.columns == [*range(task.width)]
        cache_dir = Path(task.cache_dir) if task.cache_dir else None
        engine = open_engine(
            bundle.model, task.provider, threads=task.threads, cache_dir=cache_dir, libraries=task.libraries
        )
        self._pipeline = Pipeline(
            agent="shadow",
            stream=task.stream,
            manifest=bundle.manifest,
            engine=engine,
            provider=task.provider.name,
            settings=task.settings,
        )
        self._recent = RecentScores()
        self._pipeline.watchers.append(self._recent)
        self._timed: deque[float] = deque(maxlen=_TIMED_KEPT)
        self._deeds = Deeds()
        self._assets: dict[str, None] = {}

    def score(self, block: Block) -> None:
        """Score a block."""
        times = np.frombuffer(block.times, np.float64)
        values = np.frombuffer(bytearray(block.values), np.float32).reshape(len(times), self._width)
        if not self._is_as_it_comes:
            values = np.ascontiguousarray(values[:, self._columns])
        cuts = [0, block.timed_from, block.timed_to, len(times)]
        anew = block.anew
        for place, (start, end) in enumerate(itertools.pairwise(cuts)):
            if start == end:
                continue
            part = slice(start, end)
            readings = Readings(block.assets[part], times[part].tolist(), values[part], None, anew)
            anew = False
            began_ns = time.perf_counter_ns()
            self._process(readings)
            if place == 1:
                self._timed.append((time.perf_counter_ns() - began_ns) / 1e3)
                self._deeds.timed += 1

    def _process(self, readings: Readings) -> None:
        deeds = self._deeds
        for part in self._pipeline.parts(readings):
            outcome = self._pipeline.process(part)
            deeds.scored += outcome.scored
            deeds.not_finite += outcome.not_finite
            deeds.at_limit += outcome.at_limit
            if outcome.alerts is not None:
                raised = outcome.alerts.raised()
                deeds.raised += len(raised)
                if len(self._assets) < _ASSETS_KEPT:
                    self._assets.update(dict.fromkeys(raised))

    def report(self) -> Deeds:
        """What was done so far."""
        deeds = self._deeds
        deeds.assets = [*self._assets]
        deeds.quantiles = self._recent.quantiles()
        deeds.batch_us = round(statistics.median(self._timed), 1) if self._timed else None
        deeds.drifts = self._pipeline.drift.has_alert
        return deeds


def _blocks(source: BinaryIO) -> Iterator[Block]:
    while len(head := source.read(4)) == 4:
        size = int.from_bytes(head, "little")
        content = source.read(size)
        if len(content) < size:
            return
        yield msgspec.msgpack.decode(content, type=Block)


def _answer(answers: BinaryIO, report: ShadowReport) -> None:
    answers.write(msgspec.json.encode(report) + b"\n")


def main() -> None:
    """The process."""
    requests, answers = child_side()
    task = msgspec.json.decode(next(requests), type=ShadowTask)
    try:
        shadow = _Shadow(open_bundle(Path(task.bundle)), task)
        _answer(answers, ShadowReport(deeds=Deeds()))
        for block in _blocks(sys.stdin.buffer):
            shadow.score(block)
            if block.asks:
                _answer(answers, ShadowReport(deeds=shadow.report()))
    except EdgeError as exc:
        _answer(answers, ShadowReport(deeds=Deeds(), problem=exc.lines[0] if exc.lines else type(exc).__name__))


if __name__ == "__main__":
    main()
