"""A shadow beside a stream: a real process, and what is made of its answers, which are always behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fakes import readings, write_bundle
from processes import wait_until

from edge_agent.bundle import open_bundle
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS
from edge_agent.stream.outcome import Outcome
from edge_agent.stream.recent import RecentScores
from edge_agent.stream.settings import StreamSettings
from edge_agent.update.shadowing import ShadowError, Shadowing

BURST = 300
"""Readings of one asset, more than a model needs that can score at all."""


@contextmanager
def shadowing(folder: Path) -> Iterator[Shadowing]:
    bundle = open_bundle(write_bundle(folder / "new-1.1.0.edge"))
    candidate = Candidate(provider=PROVIDERS["cpu"], threads=1, verdict=Verdict.QUALIFIED, reason="")
    names = [channel.name for channel in bundle.manifest.channels]
    shadow = Shadowing(
        bundle,
        candidate,
        cache_dir=None,
        settings=StreamSettings(),
        stream="pump",
        channels=names,
        alerting=set(),
        recent=RecentScores(),
    )
    try:
        wait_until(lambda: turned(shadow).is_ready, 60, "the new model")
        yield shadow
    finally:
        shadow.close()


def offer(shadow: Shadowing, count: int, value: float = 1.0) -> None:
    """Readings that the stream scores in one turn, as after a start at a broker that has kept them."""
    part = readings([[value, value]] * count, start_s=time.time())
    is_timed = shadow.offer(part)
    shadow.scored(Outcome(scored=count), 0.001, is_timed=is_timed)


def turned(shadow: Shadowing) -> Shadowing:
    """After a turn of the loop."""
    shadow.tick()
    return shadow


def test_who_has_not_answered_yet_is_not_blind(tmp_path: Path) -> None:
    """A backlog comes in one turn, and the other process has seen nothing of it."""
    with shadowing(tmp_path) as shadow:
        offer(shadow, BURST)
        assert shadow.problem() is None
        wait_until(lambda: turned(shadow).new.scored == BURST, 60, "its answer")
        assert shadow.problem() is None


def test_who_has_had_enough_readings_and_scored_none_is_blind(tmp_path: Path) -> None:
    """Such as a bundle with a channel that nobody sends; here its values are none."""
    with shadowing(tmp_path) as shadow:
        offer(shadow, BURST, np.nan)
        wait_until(lambda: turned(shadow).problem() is not None, 60, "the verdict")
        assert shadow.problem() == f"the new model has scored nothing, and the old one {BURST} windows"


def test_a_process_that_ends_is_a_reason_not_to_switch(tmp_path: Path) -> None:
    """Whoever ended it."""
    with shadowing(tmp_path) as shadow:
        shadow._child._process.kill()
        with pytest.raises(ShadowError, match="ended its process"):
            wait_until(lambda: turned(shadow) is None, 60, "the error")
