"""Keeps a running stream's choice true: notes the batch sizes, and chooses again when the facts have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.config import EngineSection
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.fallback import FallbackEngine, Opener, open_proven
from edge_agent.engine.mix import Mix, load_mix, save_mix
from edge_agent.engine.selection import Choice, choose_provider, provider_memory
from edge_agent.errors import EdgeError

__all__ = ["Upkeep", "choose_for_stream", "mix_file", "open_stream_engine"]

log = logging.getLogger(__name__)

_INTERVAL_S = 600.0
_MEASURE_INTERVAL_S = 6 * 3600.0
"""Measuring takes seconds of a core, so a machine that is busy for days must not measure all the time."""


def mix_file(state_dir: Path, stream: str) -> Path:
    """Where a stream's batch sizes are kept."""
    return state_dir / f"batches-{stream}.json"


def choose_for_stream(
    bundle: Bundle, wanted: EngineSection, *, stream: str, state_dir: Path, anew: bool = False
) -> Choice:
    """`choose_provider` by the batch sizes that this stream has met.

    Raises:
        ProviderError: nothing that may run gives the golden scores.
        MissingExtraError: no runtime is installed.
    """
    mix = load_mix(mix_file(state_dir, stream))
    enough = mix if mix is not None and mix.is_enough else None
    return choose_provider(bundle, wanted, state_dir=state_dir, mix=enough, anew=anew)


def open_stream_engine(
    bundle: Bundle, choice: Choice, wanted: EngineSection, *, stream: str, state_dir: Path
) -> tuple[FallbackEngine, Upkeep]:
    """Load what was chosen; when that was remembered and does not work any more, prove and measure anew.

    Raises:
        ProviderError: nothing that may run gives the golden scores any more.
        EngineError: what is proven in a child fails in this process.
    """
    memory = provider_memory(bundle, wanted, state_dir)
    try:
        engine = FallbackEngine(bundle, choice, memory)
    except EdgeError as exc:
        if not choice.remembered:
            raise
        log.warning("remembered providers do not work any more, measuring again stream=%s error=%s", stream, exc)
        choice = choose_for_stream(bundle, wanted, stream=stream, state_dir=state_dir, anew=True)
        engine = FallbackEngine(bundle, choice, memory)
    return engine, Upkeep(bundle, engine, wanted, stream=stream, state_dir=state_dir)


class Upkeep:
    """Looks after one stream's engine. `tick` is called now and then on the loop's thread and returns at once.

    Args:
        bundle: an open bundle.
        engine: the stream's.
        wanted: the `[engine]` settings.
        stream: its name.
        state_dir: where batch sizes and evidence are kept.
        chooser: chooses again, anew if told so; called on a thread of its own.
        opener: loads and checks a provider; called on that thread too.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: FallbackEngine,
        wanted: EngineSection,
        *,
        stream: str,
        state_dir: Path,
        chooser: Callable[[bool], Choice] | None = None,
        opener: Opener = open_proven,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._engine = engine
        self._stream = stream
        self._mix_file = mix_file(state_dir, stream)
        self._chooser = chooser or (
            lambda anew: choose_for_stream(bundle, wanted, stream=stream, state_dir=state_dir, anew=anew)
        )
        self._opener = opener
        self._clock = clock
        self._mix = load_mix(self._mix_file)
        self._chosen_for = engine.choice.mix
        self._due_mono_s = clock() + _INTERVAL_S
        self._measured_mono_s: float | None = None
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Every ten minutes: keep the batch sizes, and see whether the choice still holds."""
        if self._clock() < self._due_mono_s:
            return
        self._due_mono_s = self._clock() + _INTERVAL_S
        self.keep_mix()
        if self._thread is not None and self._thread.is_alive():
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
        """Write down the batch sizes met so far. Called when the agent stops, too."""
        met = self._engine.record.take_mix()
        if met is not None:
            self._mix = met if self._mix is None else self._mix.plus(met)
            save_mix(self._mix_file, self._mix)

    @property
    def mix(self) -> Mix | None:
        """The batch sizes as of the last `keep_mix`."""
        return self._mix

    def wait(self, timeout_s: float) -> None:
        """For a choice that is being made."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start(self, *, anew: bool) -> None:
        # Measuring and loading take seconds, and readings must not wait for them.
        self._thread = threading.Thread(
            target=self._choose_again, args=(anew,), name=f"edge-agent.choose.{self._stream}", daemon=True
        )
        self._thread.start()

    def _choose_again(self, anew: bool) -> None:
        try:
            choice = self._chooser(anew)
            chosen: Candidate = choice.ranking[0]
            if chosen.name in self._engine.failed and not anew:
                return
            if chosen.name != self._engine.current.name or anew:
                self._engine.offer(choice, chosen, self._opener(self._bundle, chosen, self._engine.cache_dir))
        except EdgeError as exc:
            log.warning("provider not chosen again, the old one stays stream=%s error=%s", self._stream, exc)
        # The outer edge of a thread: a bug here must not end the scoring.
        except Exception:
            log.exception("choosing a provider again failed stream=%s", self._stream)
