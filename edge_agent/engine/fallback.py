"""The engine of a running stream: the chosen provider and, when it fails, the next one that is proven."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.footprint import give_back_load_memory
from edge_agent.engine.golden import GoldenError, check_golden_quickly
from edge_agent.engine.live import LiveRecord
from edge_agent.engine.memory import Memory
from edge_agent.engine.providers import Provider
from edge_agent.engine.selection import Choice
from edge_agent.engine.session import Engine, Scores, open_engine
from edge_agent.errors import EngineError
from edge_agent.stream.reading import FloatArray

__all__ = ["FallbackEngine", "Opener", "open_proven"]

log = logging.getLogger(__name__)

Opener = Callable[[Bundle, Candidate, Path | None], Engine]
"""Loads a bundle with a candidate's provider, given the folder for compiled models, and checks golden scores."""


def open_proven(bundle: Bundle, candidate: Candidate, cache_dir: Path | None) -> Engine:
    """Load a provider that was proven before into this process, and check that it still gives the golden scores.

    Raises:
        EngineError: it does not load or run.
        GoldenError: its scores are wrong now.
    """
    engine = open_engine(bundle.model, candidate.provider, threads=candidate.threads, cache_dir=cache_dir)
    # Before the check, so that it brings back what scoring needs and no reading has to wait for that.
    give_back_load_memory()
    check_golden_quickly(engine, bundle)
    return engine


class FallbackEngine:
    """Scores with the first provider of a ranking that works. Used by one thread; `offer` may come from another.

    Args:
        bundle: an open bundle.
        choice: the providers in the order to try them.
        memory: forgotten when a remembered provider fails, so that the next start measures.
        opener: loads and checks a provider.

    Raises:
        EngineError: none of the ranking works.
    """

    def __init__(
        self, bundle: Bundle, choice: Choice, memory: Memory | None = None, *, opener: Opener = open_proven
    ) -> None:
        self._bundle = bundle
        self._opener = opener
        self._memory = memory
        self._offered: tuple[Choice, Candidate, Engine] | None = None
        self.choice = choice
        self.record = LiveRecord()
        self.failed: dict[str, str] = {}
        """Providers of the ranking that failed since the start, with the reason."""
        self._current, self._engine = self._open_next(None)

    @property
    def provider(self) -> Provider:
        """What scores now."""
        return self._current.provider

    @property
    def current(self) -> Candidate:
        """What scores now, and what was measured of it."""
        return self._current

    @property
    def cache_dir(self) -> Path | None:
        """Folder for compiled models."""
        return self._memory.cache_dir if self._memory else None

    def score(self, windows: FloatArray) -> Scores:
        """See `Engine.score`. The batch is scored by another provider when the current one fails.

        Raises:
            EngineError: every provider failed on it.
        """
        if self._offered is not None:
            self._take_offer()
        before_ns = time.perf_counter_ns()
        try:
            scores = self._engine.score(windows)
        except EngineError as exc:
            return self._fall_back(windows, exc)
        self.record.add(len(windows), time.perf_counter_ns() - before_ns)
        return scores

    def offer(self, choice: Choice, candidate: Candidate, engine: Engine) -> None:
        """Let another engine take over before the next batch. May be called on any thread."""
        self._offered = (choice, candidate, engine)

    def describe(self) -> dict[str, Any]:
        """Every candidate, the choice, and what has become of it, for the health message."""
        return {
            **self.choice.describe(),
            "running": self._current.name,
            "failed": dict(self.failed),
            "live_us": self.record.median_us(),
        }

    def _take_offer(self) -> None:
        assert self._offered is not None
        self.choice, self._current, self._engine = self._offered
        self._offered = None
        self.failed.clear()
        self.record.start_over()
        log.info("provider changed name=%s reason=%r", self._current.name, self.choice.reason)

    def _fall_back(self, windows: FloatArray, exc: EngineError) -> Scores:
        error = exc
        while True:
            log.error("provider failed, trying the next name=%s error=%s", self._current.name, error)
            self.failed[self._current.name] = str(error)
            self._current, self._engine = self._open_next(error)
            self.record.start_over()
            try:
                scores = self._engine.score(windows)
            except EngineError as again:
                error = again
                continue
            log.warning("provider took over name=%s windows=%d", self._current.name, len(windows))
            return scores

    def _open_next(self, cause: EngineError | None) -> tuple[Candidate, Engine]:
        """The first of the ranking that has not failed and works now."""
        for candidate in self.choice.ranking:
            if candidate.name in self.failed:
                continue
            try:
                engine = self._open(candidate)
            except (EngineError, GoldenError) as exc:
                log.warning("provider does not work any more name=%s error=%s", candidate.name, exc)
                self.failed[candidate.name] = str(exc)
                continue
            if self.failed and self._memory is not None:
                self._memory.forget()
            return candidate, engine
        if self._memory is not None:
            self._memory.forget()
        tried = "; ".join(f"{name}: {reason}" for name, reason in self.failed.items())
        raise EngineError(f"{self._bundle.path}: every proven provider failed: {tried}") from cause

    def _open(self, candidate: Candidate) -> Engine:
        if self._memory is None:
            return self._opener(self._bundle, candidate, None)
        self._memory.mark_starting(True)
        try:
            return self._opener(self._bundle, candidate, self.cache_dir)
        finally:
            # Not reached when the provider takes this process down, and that is what the next start looks for.
            self._memory.mark_starting(False)
