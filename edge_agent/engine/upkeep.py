"""Keeps a running stream's provider up to date: records the batch sizes, and chooses again when the facts change."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.child_process import LOOK_S, Look, Stopped, never_stop
from edge_agent.engine.choice.batch_mix import BatchMix, load_mix, save_mix
from edge_agent.engine.choice.choose import Choice, choose_provider, provider_memory
from edge_agent.engine.choice.compiled import drop_compiled
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.engine.fallback import FallbackEngine
from edge_agent.engine.golden import GoldenError
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import EdgeError, EngineError

__all__ = ["Upkeep", "choose_for_stream", "clear_compiled", "mix_file", "open_stream_engine"]

log = logging.getLogger(__name__)

_INTERVAL_S = 600.0
"""Time between two checks of the choice, and the first pause before an unfinished choice is continued."""
_MEASURE_INTERVAL_S = 6 * 3600.0
"""Measuring takes seconds of a core, so a machine that is busy for days must not measure all the time."""
_measuring = threading.Lock()
"""Held while a stream measures: streams that measure at the same time would disturb each other's times."""


def mix_file(state_dir: Path, stream: str) -> Path:
    """The file of a stream's batch sizes."""
    return state_dir / f"batches-{stream}.json"


def clear_compiled(bundles: Iterable[tuple[Bundle, EngineSettings]], state_dir: Path) -> None:
    """Remove compiled models of bundles that are not in use, and those in use where the disk is short.

    Args:
        bundles: in use, each with its `[engine]` settings.
        state_dir: folder of the compiled models.
    """
    memories = [provider_memory(bundle, wanted, state_dir) for bundle, wanted in bundles]
    drop_compiled(state_dir, {memory.key for memory in memories})
    for memory in memories:
        memory.cache_dir()


def choose_for_stream(
    bundle: Bundle,
    wanted: EngineSettings,
    *,
    stream: str,
    state_dir: Path,
    anew: bool = False,
    look: Look = never_stop,
) -> Choice:
    """Call `choose_provider` with the batch sizes that this stream has met.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        stream: the stream's name.
        state_dir: folder of batch sizes and evidence.
        anew: True measures again, whatever is remembered.
        look: called while a child is waited for.

    Raises:
        BundleError: nothing on this device can load a model, and its manifest names no newer runtime.
        ProviderError: no provider that may run gives the golden scores, or the installed runtime is damaged.
        MissingExtraError: no runtime is installed.
        Stopped: the agent is to stop.
    """
    mix = _enough_of(load_mix(mix_file(state_dir, stream)))
    return choose_provider(bundle, wanted, state_dir=state_dir, mix=mix, anew=anew, look=look)


def open_stream_engine(
    bundle: Bundle,
    wanted: EngineSettings,
    *,
    stream: str,
    state_dir: Path,
    look: Look = never_stop,
    on_try: Callable[[str], None] = lambda _: None,
) -> tuple[FallbackEngine, Upkeep]:
    """Load the remembered best provider or, if none is remembered, the first one that gives the golden scores.

    Args:
        bundle: an open bundle.
        wanted: the `[engine]` settings.
        stream: the stream's name.
        state_dir: folder of batch sizes and evidence.
        look: called while a child is waited for.
        on_try: called with the name of each provider before it is tried.

    Returns:
        The engine, and its upkeep, which proves and times the other providers later.

    Raises:
        BundleError: nothing on this device can load a model, and its manifest names no newer runtime.
        ProviderError: no provider that may run gives the golden scores, or the installed runtime is damaged.
        MissingExtraError: no runtime is installed.
        EngineError: every provider that is proven in a child process fails in this process.
        Stopped: the agent is to stop.
    """
    memory = provider_memory(bundle, wanted, state_dir)
    mix = _enough_of(load_mix(mix_file(state_dir, stream)))
    choice = choose_to_start(bundle, wanted, memory, mix=mix, look=look, on_try=on_try)
    try:
        engine = FallbackEngine(bundle, choice, memory)
    except EngineError as exc:
        if not choice.remembered:
            raise
        log.warning("remembered providers do not work any more, proving again stream=%s error=%s", stream, exc)
        choice = choose_to_start(bundle, wanted, memory, mix=mix, look=look, on_try=on_try)
        engine = FallbackEngine(bundle, choice, memory)
    return engine, Upkeep(bundle, engine, wanted, stream=stream, state_dir=state_dir)


def _enough_of(mix: BatchMix | None) -> BatchMix | None:
    return mix if mix is not None and mix.is_enough else None


class Upkeep:
    """Looks after one stream's engine: chooses its provider again, on a thread of its own, when that is needed.

    If the choice at the start was not settled, the first tick begins to settle it.

    Args:
        bundle: an open bundle.
        engine: the stream's engine.
        wanted: the `[engine]` settings.
        stream: the stream's name.
        state_dir: folder of batch sizes and evidence.
        chooser: makes a choice; its first argument is True if it must measure again, and it calls the second, a `Look`,
            while it waits. Called on a thread of its own. None for `choose_for_stream`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: FallbackEngine,
        wanted: EngineSettings,
        *,
        stream: str,
        state_dir: Path,
        chooser: Callable[[bool, Look], Choice] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._engine = engine
        self._stream = stream
        self._mix_file = mix_file(state_dir, stream)
        self._wanted = wanted
        self._state_dir = state_dir
        self._chooser = chooser or self._choose
        self._clock = clock
        self._mix = load_mix(self._mix_file)
        self._chosen_for = engine.choice.mix
        self._due_mono_s = clock() + _INTERVAL_S
        self._measured_mono_s: float | None = None
        self._settle_due_mono_s = clock()
        self._settle_pause_s = _INTERVAL_S
        self._stopping = False
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Take over a new choice, settle a choice that is not settled, and every ten minutes check the choice.

        Must be called regularly, on the scoring thread; returns at once.
        """
        self._engine.take_offer()
        if not self._engine.choice.settled and self._clock() >= self._settle_due_mono_s and not self.is_choosing:
            self._settle_due_mono_s = self._clock() + self._settle_pause_s
            self._settle_pause_s = min(2 * self._settle_pause_s, _MEASURE_INTERVAL_S)
            self._start(anew=False)
        if self._clock() < self._due_mono_s:
            return
        self._due_mono_s = self._clock() + _INTERVAL_S
        self.keep_mix()
        if self.is_choosing:
            return
        excess = self._engine.record.excess(self._engine.current)
        rested = self._measured_mono_s is None or self._clock() >= self._measured_mono_s + _MEASURE_INTERVAL_S
        if excess is not None and rested:
            self._measured_mono_s = self._clock()
            log.warning("latency left what was measured, measuring again stream=%s %s", self._stream, excess)
            self._start(anew=True)
        elif self._mix is not None and self._mix.is_enough and self._mix.differs(self._chosen_for):
            self._chosen_for = self._mix
            self._start(anew=False)

    def keep_mix(self) -> None:
        """Write the batch sizes met so far to their file. Must also be called when the agent stops."""
        met = self._engine.record.take_mix()
        if met is not None:
            self._mix = met if self._mix is None else self._mix.plus(met)
            save_mix(self._mix_file, self._mix)

    @property
    def is_choosing(self) -> bool:
        """True if a choice is being made."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def mix(self) -> BatchMix | None:
        """The batch sizes as of the last `keep_mix`; None if there were none."""
        return self._mix

    def wait(self, timeout_s: float) -> None:
        """Wait, at most so many seconds, for a choice that is being made."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stop(self) -> None:
        """Give up a choice that is being made, and return at once; `wait` then waits until its children are gone."""
        self._stopping = True

    def _look(self) -> None:
        if self._stopping:
            raise Stopped

    def _start(self, *, anew: bool) -> None:
        # Measuring and loading take seconds, and readings must not wait for them.
        self._thread = threading.Thread(
            target=self._choose_again, args=(anew,), name=f"edge-agent.choose.{self._stream}", daemon=True
        )
        self._thread.start()

    def _choose(self, anew: bool, look: Look) -> Choice:
        if anew:
            # Forgets the old times, but not which providers took the agent down.
            provider_memory(self._bundle, self._wanted, self._state_dir).forget()
        return choose_for_stream(self._bundle, self._wanted, stream=self._stream, state_dir=self._state_dir, look=look)

    def _choose_again(self, anew: bool) -> None:
        try:
            while not _measuring.acquire(timeout=LOOK_S):
                self._look()
            try:
                choice = self._chooser(anew, self._look)
            finally:
                _measuring.release()
            self._offer(choice, anew)
        except Stopped:
            log.info("choice of a provider given up, the agent stops stream=%s", self._stream)
        except EdgeError as exc:
            log.warning("provider not chosen again, the old one stays stream=%s error=%s", self._stream, exc)
        # The outer edge of a thread: a bug here is logged, and scoring goes on.
        except Exception:
            log.exception("choosing a provider again failed stream=%s", self._stream)

    def _offer(self, choice: Choice, anew: bool) -> None:
        """Offer the first candidate of the ranking that loads; the running one stays if no candidate before it loads.

        Args:
            choice: the new choice.
            anew: True if it was measured again: then failures are forgotten, and the running candidate is loaded again.
        """
        failed = {} if anew else dict(self._engine.failed)
        for candidate in choice.ranking:
            if candidate.name in failed:
                continue
            runs = candidate.name == self._engine.current.name
            if runs and not anew:
                self._engine.adopt(choice, candidate)
                return
            try:
                self._engine.offer(choice, candidate)
            except (EngineError, GoldenError) as exc:
                log.warning("provider does not load stream=%s name=%s error=%s", self._stream, candidate.name, exc)
                if not runs:
                    continue
                self._engine.adopt(choice, candidate)
            return
        self._engine.adopt(choice, self._engine.current)
