"""The engine of a running stream: the chosen provider and, when that provider fails, the next proven one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.bundle import Bundle
from edge_agent.engine.choice.choose import Choice
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.choice.live import LiveRecord
from edge_agent.engine.choice.mark import Mark
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.footprint import give_back_load_memory
from edge_agent.engine.golden import check_golden_quickly
from edge_agent.engine.pace import LARGEST_BATCH, Pace
from edge_agent.engine.providers import Provider
from edge_agent.engine.session import open_engine
from edge_agent.errors import EdgeError, EngineError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine, Scores

__all__ = ["FallbackEngine", "Opener", "open_proven"]

log = logging.getLogger(__name__)

Opener = Callable[[Bundle, Candidate, Path | None], Engine]
"""Loads a bundle with a candidate's provider and checks the golden scores.

The path is the folder for compiled models; None compiles anew. Raises EngineError or GoldenError.
"""


def open_proven(bundle: Bundle, candidate: Candidate, cache_dir: Path | None) -> Engine:
    """Load a provider that was proven before into this process, and check that it still gives the golden scores.

    Args:
        bundle: an open bundle.
        candidate: the provider with its number of threads.
        cache_dir: folder for compiled models; None compiles anew.

    Raises:
        EngineError: the provider does not load or run.
        GoldenError: the provider's scores are wrong now.
        BundleError: the model is not canonical.
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged.
    """
    engine = open_engine(
        bundle.model,
        candidate.provider,
        threads=candidate.threads,
        cache_dir=cache_dir,
        libraries=bundle.libraries,
    )
    # Before the check: the check loads the pages that scoring needs again, so that no reading has to wait for them.
    give_back_load_memory()
    check_golden_quickly(engine, bundle)
    return engine


class _Loaded(NamedTuple):
    """A provider that is loaded and ready to score."""

    candidate: Candidate
    score: Callable[[FloatArray, FloatArray | None], Scores]
    mark: Mark | None


class _Offer(NamedTuple):
    """A choice that replaces the current one before the next batch."""

    choice: Choice
    candidate: Candidate
    loaded: _Loaded | None
    """None if the candidate is already running."""


class FallbackEngine:
    """Scores with the first provider of a ranking that works.

    All methods are called on one thread, except `offer` and `adopt`, which may be called on any.

    Args:
        bundle: an open bundle.
        choice: the providers, in the order to try them.
        memory: forgotten when a remembered provider fails, so that the next start measures again; also keeps a mark of
            each loaded candidate. None for a process that no service manager starts again.
        opener: loads and checks a provider.

    Raises:
        EngineError: no provider of the ranking works.
    """

    def __init__(
        self, bundle: Bundle, choice: Choice, memory: Memory | None = None, *, opener: Opener = open_proven
    ) -> None:
        self._bundle = bundle
        self._opener = opener
        self._memory = memory
        self._offered: _Offer | None = None
        self._offering = threading.Lock()
        self._marks: set[Mark] = set()
        self._is_closed = False
        self.choice = choice
        self.record = LiveRecord()
        self.pace = Pace(LARGEST_BATCH)
        """How many readings are best scored at once with the present provider, so that an answer takes about a second.
        Whoever cuts them tells it how long they took."""
        self.failed: dict[str, str] = {}
        """Providers of the ranking that failed since the start, with the reason."""
        self._loaded = self._load_next(None)

    @property
    def provider(self) -> Provider:
        """The provider that scores now."""
        return self._loaded.candidate.provider

    @property
    def current(self) -> Candidate:
        """The candidate that scores now, with its measurements."""
        return self._loaded.candidate

    def score(self, windows: FloatArray, state: FloatArray | None = None) -> Scores:
        """Score a batch, as `Engine.score`; if the current provider fails, with the next one that works.

        Raises:
            EngineError: every provider failed, at loading or on this batch.
        """
        if self._offered is not None:
            self.take_offer()
        before_ns = time.perf_counter_ns()
        try:
            scores = self._loaded.score(windows, state)
        except EngineError as exc:
            return self._fall_back(windows, state, exc)
        spent_ns = time.perf_counter_ns() - before_ns
        self.record.add(len(windows), spent_ns)
        return scores

    def offer(self, choice: Choice, candidate: Candidate) -> None:
        """Load a candidate, to take over before the next batch. May be called on any thread, and takes seconds.

        Args:
            choice: the choice that the candidate is from.
            candidate: to load.

        Raises:
            EngineError: the candidate does not load or run.
            GoldenError: the candidate's scores are wrong now.
        """
        self._put(_Offer(choice, candidate, self._load(candidate)))

    def adopt(self, choice: Choice, candidate: Candidate) -> None:
        """Replace the choice before the next batch, while the provider stays. May be called on any thread.

        Args:
            choice: replaces the current choice.
            candidate: the running candidate, with its new measurements.
        """
        self._put(_Offer(choice, candidate, None))

    def take_offer(self) -> None:
        """Take over the last `offer` or `adopt`, if any. Called on the scoring thread, also when no batch comes."""
        with self._offering:
            offer, self._offered = self._offered, None
        if offer is None:
            return
        if offer.loaded is not None:
            self._unmark(self._loaded.mark)
            self._loaded = offer.loaded
            self.failed.clear()
            self._start_over()
            log.info("provider changed name=%s reason=%r", self.current.name, offer.choice.reason)
        elif offer.candidate.name == self.current.name:
            self._loaded = self._loaded._replace(candidate=offer.candidate)
        # Otherwise the adopted candidate has failed meanwhile; the new ranking is still better than the old one.
        self.choice = offer.choice

    def close(self) -> None:
        """Clear all marks before a planned end, so that a later crash is not blamed on a provider."""
        self._is_closed = True
        for mark in list(self._marks):
            mark.clear()

    def describe(self) -> dict[str, Any]:
        """For the health message: the choice with all candidates, the running one, failures and the live time."""
        return {
            **self.choice.describe(),
            "running": self.current.name,
            "failed": dict(self.failed),
            "live_us": self.record.median_us(),
        }

    def _put(self, offer: _Offer) -> None:
        with self._offering:
            former, self._offered = self._offered, offer
        if former is not None and former.loaded is not None:
            self._unmark(former.loaded.mark)

    def _start_over(self) -> None:
        """Another provider: what was learnt of the former one says nothing of it."""
        self.record.start_over()
        self.pace = Pace(LARGEST_BATCH)

    def _fall_back(self, windows: FloatArray, state: FloatArray | None, exc: EngineError) -> Scores:
        error = exc
        while True:
            log.error("provider failed, trying the next name=%s error=%s", self.current.name, error)
            self.failed[self.current.name] = str(error)
            self._unmark(self._loaded.mark)
            self._loaded = self._load_next(error)
            self._start_over()
            try:
                scores = self._loaded.score(windows, state)
            except EngineError as again:
                error = again
                continue
            log.warning("provider took over name=%s windows=%d", self.current.name, len(windows))
            return scores

    def _load_next(self, cause: EngineError | None) -> _Loaded:
        """Load the first candidate of the ranking that has not failed and works now."""
        for candidate in self.choice.ranking:
            if candidate.name in self.failed:
                continue
            try:
                loaded = self._load(candidate)
            except EdgeError as exc:
                log.warning("provider does not work any more name=%s error=%s", candidate.name, exc)
                self.failed[candidate.name] = str(exc)
                continue
            if self.failed and self._memory is not None:
                self._memory.forget()
            return loaded
        if self._memory is not None:
            self._memory.forget()
        tried = "; ".join(f"{name}: {reason}" for name, reason in self.failed.items())
        raise EngineError(f"{self._bundle.path}: every proven provider failed: {tried}") from cause

    def _load(self, candidate: Candidate) -> _Loaded:
        if self._memory is None:
            return _Loaded(candidate, self._opener(self._bundle, candidate, None).score, None)
        mark = self._memory.mark(candidate)
        self._marks.add(mark)
        if self._is_closed:  # `close` may be called meanwhile, on the scoring thread
            self._unmark(mark)
        try:
            engine = mark.inside(self._opener)(self._bundle, candidate, self._memory.cache_dir())
        except BaseException:
            # A failure that raises needs no mark: the mark is for a load that ends the process.
            self._unmark(mark)
            raise
        mark.running()
        return _Loaded(candidate, mark.inside(engine.score), mark)

    def _unmark(self, mark: Mark | None) -> None:
        if mark is not None:
            mark.clear()
            self._marks.discard(mark)
