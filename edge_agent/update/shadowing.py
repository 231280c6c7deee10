"""The running stream's side of a shadow: hands on what it scores, never waits, and notes what its own model does.

The other model may be slow, hang or end its process; readings that its pipe does not take are left out, which is told,
and the stream goes on as if it were not there.
"""

from __future__ import annotations

import fcntl
import math
import os
import statistics
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.child_process import ChildEndedError, ChildProcess
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.stream.outcome import Outcome
from edge_agent.stream.recent import RecentScores
from edge_agent.stream.settings import StreamSettings
from edge_agent.update.comparison import Deeds, readings_needed
from edge_agent.update.shadow import Block, ShadowReport, ShadowTask
from edge_agent.update.wishes import ShadowPart

__all__ = ["ShadowError", "Shadowing"]

_ROWS = 512
_HOLD_S = 0.25
"""Readings go on together, at the latest after this time: for each alone, the pipe would cost more than the model."""
_ASK_S = 1.0
_SILENT_S = 60.0
"""Without an answer for so long, the process hangs."""
_UNSENT_BYTES = 4 << 20
_PIPE_BYTES = 1 << 20
_TIMED_EVERY_S = 0.05
_TIMED_KEPT = 256
_ASSETS_KEPT = 200
_NAMED, _MOST_SEEN = 5, 10_000


class ShadowError(Exception):
    """The other model cannot go on: a reason not to switch to it."""


class Shadowing:
    """A shadow beside a stream. All on the loop's thread; the constructor starts the process and returns.

    Args:
        bundle: the new one, proven.
        candidate: the provider that it would run on.
        cache_dir: folder for compiled models; None compiles anew.
        settings: of the stream.
        stream: its name.
        channels: of the running bundle, in order.
        alerting: assets that have an alert already.
        recent: gets the scores of the running model.

    Raises:
        OSError: the system has no room for another process.
        ShadowError: it has channels that the running bundle does not read.
    """

    def __init__(
        self,
        bundle: Bundle,
        candidate: Candidate,
        *,
        cache_dir: Path | None,
        settings: StreamSettings,
        stream: str,
        channels: list[str],
        alerting: set[str],
        recent: RecentScores,
    ) -> None:
        wanted = [channel.name for channel in bundle.manifest.channels]
        if new := [name for name in wanted if name not in channels]:
            names = ", ".join(new[:_NAMED])
            raise ShadowError(
                f"the running bundle does not read its channels {names}, so both cannot be compared; send it without a "
                "shadow (0 readings, 0 minutes) if it is meant"
            )
        self._window = bundle.manifest.window * bundle.manifest.stride
        self._child = ChildProcess("edge_agent.update.shadow")
        task = ShadowTask(
            bundle=str(bundle.path),
            provider=candidate.provider,
            threads=candidate.threads,
            cache_dir=str(cache_dir) if cache_dir else None,
            libraries=bundle.libraries,
            settings=settings,
            stream=stream,
            width=len(channels),
            columns=[channels.index(name) for name in wanted],
        )
        self._child.ask(msgspec.json.encode(task))
        self._pipe = self._child.requests
        os.set_blocking(self._pipe, False)
        # More than the usual 64 kB, so that a turn of the loop can hand on all that it has; refused, it is as it was.
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._unsent = bytearray()
        self._assets: list[str] = []
        self._times: list[float] = []
        self._values: list[FloatArray] = []
        self._anew = True
        self._timed = (0, 0)
        self._timed_mono_s = 0.0
        self._times_us: deque[float] = deque(maxlen=_TIMED_KEPT)
        self._since_mono_s = math.inf
        self._asked_mono_s = 0.0
        self._answered_mono_s = self._started_mono_s = time.monotonic()
        self._waits = True
        """An answer is to come."""
        self._recent = recent
        self._old_assets = dict.fromkeys(alerting)
        self._seen: set[str] = set()
        """Assets that had readings, some of them where there are very many."""
        self.old = Deeds()
        self.new = Deeds()
        """As its last answer has it."""
        self._old_asked = 0
        """Windows of the running model when the last answer was asked for."""
        self._old_answered = 0
        """Those of which that answer knows; the other model is always behind."""
        self.left_out = 0
        """Readings that the shadow did not get."""
        self.is_ready = False

    @property
    def seconds(self) -> float:
        """For how long it has scored."""
        return time.monotonic() - self._started_mono_s if self.is_ready else 0.0

    @property
    def due_mono_s(self) -> float:
        """When `tick` has something to do."""
        return 0.0 if self._unsent else min(self._since_mono_s + _HOLD_S, self._asked_mono_s + _ASK_S)

    def offer(self, part: Readings) -> bool:
        """Take readings that the stream is about to score; before missing values are held, which changes them.

        Returns:
            True if the stream's own time for them is wanted by `scored`.
        """
        if not self.is_ready or len(self._unsent) > _UNSENT_BYTES:
            self.left_out += len(part) if self.is_ready else 0
            if self._times:
                self._seal()  # what is held was before the gap
            self._anew = True
            return False
        if part.anew or len(self._times) + len(part) > _ROWS:
            self._seal()
            self._anew |= part.anew
        now = time.monotonic()
        is_timed = self._timed == (0, 0) and now >= self._timed_mono_s
        if is_timed:
            self._timed = (len(self._times), len(self._times) + len(part))
            self._timed_mono_s = now + _TIMED_EVERY_S
        if not self._times:
            self._since_mono_s = now
        self._assets += part.assets
        if len(self._seen) < _MOST_SEEN:
            self._seen.update(part.assets)
        self._times += part.times
        self._values.append(part.values.copy())
        return is_timed

    def scored(self, outcome: Outcome, seconds: float, *, is_timed: bool) -> None:
        """Note what the running model made of it.

        Args:
            outcome: of the same readings.
            seconds: that it took.
            is_timed: what `offer` gave.
        """
        if not self.is_ready:
            return
        old = self.old
        old.scored += outcome.scored
        old.not_finite += outcome.not_finite
        old.at_limit += outcome.at_limit
        if is_timed:
            self._times_us.append(seconds * 1e6)
            old.timed += 1
        if outcome.alerts is not None:
            raised = outcome.alerts.raised()
            old.raised += len(raised)
            if len(self._old_assets) < _ASSETS_KEPT:
                self._old_assets.update(dict.fromkeys(raised))

    def tick(self) -> None:
        """Hand on what is there, and take answers. Never waits.

        Raises:
            ShadowError: the other model failed.
        """
        now = time.monotonic()
        if now >= min(self._since_mono_s + _HOLD_S, self._asked_mono_s + _ASK_S) and self.is_ready:
            self._seal()
        self._send()
        self._take(now)
        if self._waits and now > self._answered_mono_s + _SILENT_S:
            raise ShadowError(f"the new model's process gave no sign of life for {_SILENT_S:.0f} s")

    def problem(self) -> str | None:
        """Why nothing can come of it; None if something may."""
        needed = readings_needed(self._window, max(1, len(self._seen)))
        if self.new.scored or self._old_answered <= needed:
            return None
        return f"the new model has scored nothing, and the old one {self._old_answered} windows"

    def tell_old(self) -> Deeds:
        """What the running model did meanwhile."""
        self.old.assets = [*self._old_assets]
        self.old.quantiles = self._recent.quantiles()
        self.old.batch_us = round(statistics.median(self._times_us), 1) if self._times_us else None
        return self.old

    def describe(self, wanted: ShadowPart) -> dict[str, Any]:
        """How far it is."""
        return {
            "readings": self.new.scored,
            "of": wanted.readings,
            "minutes": round(self.seconds / 60, 2),
            "of_minutes": wanted.minutes,
        }

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _seal(self) -> None:
        """Make a block of what is held."""
        now = time.monotonic()
        asks = now >= self._asked_mono_s + _ASK_S and not self._waits
        if not self._times and not asks:
            self._since_mono_s = math.inf
            return
        values = np.concatenate(self._values).tobytes() if self._values else b""
        block = Block(
            assets=self._assets,
            times=np.asarray(self._times, np.float64).tobytes(),
            values=values,
            anew=self._anew,
            timed_from=self._timed[0],
            timed_to=self._timed[1],
            asks=asks,
        )
        content = msgspec.msgpack.encode(block)
        self._unsent += len(content).to_bytes(4, "little") + content
        if asks:
            self._waits, self._asked_mono_s, self._answered_mono_s = True, now, now
            self._old_asked = self.old.scored
        if self._times:
            self._anew = False
        self._assets, self._times, self._values = [], [], []
        self._timed = (0, 0)
        self._since_mono_s = math.inf

    def _send(self) -> None:
        while self._unsent:
            try:
                written = os.write(self._pipe, self._unsent[:_PIPE_BYTES])
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()  # it has ended, which its answers tell
                return
            del self._unsent[:written]

    def _take(self, now_mono_s: float) -> None:
        while True:
            try:
                line = self._child.answer(0.0)
            except ChildEndedError as exc:
                raise ShadowError(f"the new model ended its process with {exc}") from exc
            if line is None:
                return
            report = msgspec.json.decode(line, type=ShadowReport)
            if report.problem:
                raise ShadowError(f"the new model failed: {report.problem}")
            self._waits = False
            if not self.is_ready:
                self.is_ready, self._started_mono_s = True, now_mono_s
            self.new, self._old_answered = report.deeds, self._old_asked
