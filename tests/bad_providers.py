"""Providers that misbehave in every way seen with real ones. Opened in child processes through `Provider.engine`."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.providers import PROVIDERS, Provider
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import EngineError
from edge_agent.files.shared_library import Library
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Scores

__all__ = ["TESTS_DIR", "bad", "found"]

TESTS_DIR = str(Path(__file__).parent)
_CPU = PROVIDERS["cpu"]


def bad(kind: str) -> Provider:
    """A provider opened by a class of this module."""
    return Provider(name=kind.lower(), ort_name="CPUExecutionProvider", engine=f"bad_providers:{kind}", load_limit_s=20)


def found(*providers: Provider) -> Discovery:
    """What a device with just these has."""
    return Discovery(providers=list(providers), absent=[])


class Honest:
    """Right, like the processor's provider that it is made of; the others change one thing."""

    def __init__(
        self,
        model: bytes,
        _provider: Provider,
        *,
        threads: int = 1,
        cache_dir: Path | None = None,
        libraries: Sequence[Library] = (),
    ) -> None:
        self._right = OrtEngine(model, _CPU, threads=threads, cache_dir=cache_dir, libraries=libraries)
        self.calls = 0

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        self.calls += 1
        return self.change(self._right.score(windows))

    def change(self, scores: Scores) -> Scores:
        """What this one does to the right answer."""
        return scores


class Liar(Honest):
    """Every score is off by 3 %."""

    def change(self, scores: Scores) -> Scores:
        return Scores(scores.score * np.float32(1.03), scores.contributions)


class LiarInBatches(Honest):
    """Right alone, wrong for the last window of a large batch."""

    def change(self, scores: Scores) -> Scores:
        score = scores.score.copy()
        if len(score) > 100:
            score[-1] += 100
        return Scores(score, scores.contributions)


class NotANumber(Honest):
    """One score of a batch is no number."""

    def change(self, scores: Scores) -> Scores:
        score = scores.score.copy()
        score[0] = np.nan
        return Scores(score, scores.contributions)


class FixedBatch(Honest):
    """Answers every batch with the shape of the first one."""

    first = 0

    def change(self, scores: Scores) -> Scores:
        self.first = self.first or len(scores.score)
        return Scores(np.resize(scores.score, self.first), scores.contributions)


class Hanger(Honest):
    """Never answers."""

    def change(self, scores: Scores) -> Scores:
        time.sleep(3600)
        return scores


class Sluggish(Honest):
    """Right, and needs 40 ms for a window, as a convolution does on a twentieth of a small core."""

    def change(self, scores: Scores) -> Scores:
        time.sleep(0.04 * len(scores.score))
        return scores


class Aborter(Honest):
    """Ends the process, as an assertion in a driver does."""

    def change(self, _scores: Scores) -> Scores:
        os.write(2, b"driver: assertion failed\n")
        os.abort()


class Segfaulter(Honest):
    """Reads where nothing is."""

    def change(self, scores: Scores) -> Scores:
        ctypes.string_at(0)
        return scores


class Glutton(Honest):
    """Takes memory without end, and slowly enough to be watched."""

    def change(self, _scores: Scores) -> Scores:
        taken = []
        while True:
            taken.append(np.ones(1 << 21))
            time.sleep(0.01)


class Sprinter(Honest):
    """Right while it is proven; aborts when it is timed."""

    def change(self, scores: Scores) -> Scores:
        if self.calls > 40:
            os.abort()
        return scores


class Idler(Honest):
    """Right, because the runtime has put every node elsewhere."""

    def placement(self) -> dict[str, int]:
        """See `OrtEngine.placement`."""
        return {"SomeOtherExecutionProvider": 3}


class Sharer(Honest):
    """Right, with a third of the nodes elsewhere."""

    def placement(self) -> dict[str, int]:
        """See `OrtEngine.placement`."""
        return {"CPUExecutionProvider": 2, "SomeOtherExecutionProvider": 1}


class Crasher(Honest):
    """Right, until a batch that whoever set `at` has chosen."""

    how = ""
    at = 0

    def change(self, scores: Scores) -> Scores:
        if self.at and self.calls >= self.at:
            if self.how == "abort":
                os.abort()
            if self.how == "sleep":
                time.sleep(3600)
            raise EngineError("crasher: the runtime failed")
        return scores
