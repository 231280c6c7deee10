"""One stream's update, step by step: fetched, proven, tried in the shadow, switched to, and on probation.

No socket here. What the loop calls returns at once; what takes long is on a thread or in a process of its own. Each
step is on the disk before the next one begins, so whoever is killed in between goes on where it was, or has the old
bundle.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeError
from edge_agent.messages.text import iso_time
from edge_agent.messages.update import State
from edge_agent.stream.recent import RecentScores
from edge_agent.update.arriving import Arrival
from edge_agent.update.comparison import baseline_of, comparison_of, problem_with_deeds
from edge_agent.update.health_command import HealthCommand
from edge_agent.update.ledger import Ledger
from edge_agent.update.probation import Trial
from edge_agent.update.proving import Proven, problem_with_file
from edge_agent.update.settings_change import SettingsChange
from edge_agent.update.shadow_start import shadow_of
from edge_agent.update.shadowing import ShadowError, Shadowing
from edge_agent.update.store import Baseline, BundleFile, Probation, Store
from edge_agent.update.surroundings import Live, Surroundings, problem_with_bundle
from edge_agent.update.told import told_of
from edge_agent.update.wishes import Kind, Wish, waits_for_clock

__all__ = ["StreamUpdate"]

log = logging.getLogger(__name__)

_UNKNOWN = "its wish cannot be read any more, or is signed by a key that is not trusted any more"
_LOOK_S = 1.0
_KEEP_S = 60.0


class StreamUpdate:
    """Of one stream.

    Args:
        about: the agent and the stream.
        store: the stream's.
        live: the stream.
    """

    def __init__(self, about: Surroundings, store: Store, live: Live) -> None:
        self._about = about
        self._store = store
        self._live = live
        self._ledger = Ledger(store, about.section.name)
        self._standing = self._ledger.standing
        self._wish = self._ledger.wish(about.keys)
        self._arrival: Arrival | None = None
        self._shadow: Shadowing | None = None
        self._trial: Trial | None = None
        self._later: tuple[Wish, str] | None = None
        self._heard: dict[Kind, int] = {}
        """By kind, the highest sequence that came in this run, be it obeyed yet or not."""
        self._settings = SettingsChange(about, self._ledger)
        self._looked_mono_s = self._kept_mono_s = time.monotonic()
        self.is_due = False
        """True once the agent has to start anew, for another bundle or other settings."""
        self._held = ""
        """Why it cannot; empty where nothing was found."""
        if self._standing.state.is_on_trial:
            self._begin_trial()
        elif self._standing.state.is_pending:
            self._begin_arrival()

    @property
    def _name(self) -> str:
        return self._about.section.name

    # Wishes -----------------------------------------------------------------------------------------------------

    def last(self, kind: Kind) -> int | None:
        """The highest sequence that came of a kind, in this run or, obeyed, in those before."""
        found = [each[kind] for each in (self._standing.sequences, self._heard) if kind in each]
        return max(found, default=None)

    def is_new(self, wish: Wish) -> bool:
        """Whether a wish is newer than all before, which it then belongs to.

        What is at work on a wish must not begin anew with each copy of it, nor make way for an older one: whoever may
        only write to the broker can send recorded ones as often as it likes.
        """
        last = self.last(wish.kind)
        if last is not None and wish.sequence <= last:
            return False
        self._heard[wish.kind] = wish.sequence
        return True

    def obey(self, wish: Wish, message: str) -> None:
        """Take a wish that was judged good; one that came already changes nothing.

        Args:
            wish: of a good signature, for this stream.
            message: the signed message that it was read from.
        """
        if self.is_due or not self.is_new(wish):
            return  # the run that follows hears it again
        if wish.kind is Kind.SETTINGS:
            self._settings.take(wish, message)
        elif self._trial is not None and not wish.cancel:
            # What is judged is decided first. A restart hears this one again.
            self._later = (wish, message)
        else:
            self._take(wish, message)

    def answer(self, wish: Wish, state: str, reason: str) -> None:
        """Note what became of a wish that somebody else has carried out."""
        self._ledger.answer(wish, state, reason)

    def _take(self, wish: Wish, message: str) -> None:
        standing = self._standing
        standing.sequences = {**standing.sequences, wish.kind: wish.sequence}
        if wish.cancel:
            if standing.state.is_on_trial:
                self._go_back_from("the operator has taken it back")
            elif standing.state.is_pending:
                self._end(State.GIVEN_UP, "the operator has taken it back")
            else:
                self._ledger.save()
            return
        self._drop_work()
        standing.wish, standing.steps, standing.comparison, self._wish = message, [], {}, wish
        # Its first step is a step also where the wish before stood at the same one.
        standing.state, standing.reason = State.NONE, ""
        about, part = self._about, wish.bundle
        standing.wanted = (
            about.running if part is None else BundleFile(sha256=part.sha256, name=part.name, version=part.version)
        )
        self._tidy()
        if time.time() > wish.expires_s:
            self._end(State.GIVEN_UP, f"it has expired at {wish.expires}")  # while something else was judged
            return
        if part is None:
            target, problem = standing.former or about.configured, self._problem_with_going_back()
            if standing.active is None:
                self._end(State.REFUSED, f"the configured bundle {about.configured} runs, and there is none before it")
            elif problem is not None:
                self._end(State.REFUSED, f"{target} cannot run: {problem}")
            else:
                self._go_back(f"to {target}, as the operator wished")
            return
        problem = problem_with_bundle(wish, part, standing, about)
        if part.sha256 == about.running.sha256:
            self._end(State.SETTLED, "it runs already")
        elif problem is not None:
            self._end(State.REFUSED, problem)
        else:
            self._begin_arrival()

    def note_held(self, problem: str) -> None:
        """The agent cannot start anew for it yet."""
        if self.is_due and problem != self._held:
            self._held = problem
            self._ledger.changes += 1

    # Pieces -----------------------------------------------------------------------------------------------------

    @property
    def arrival(self) -> Arrival | None:
        """Of the bundle that is wished for; None where none is on its way."""
        return self._arrival

    def piece(self, sha256: str, number: int, payload: bytes) -> None:
        """A piece has come."""
        if self._arrival is not None and self._arrival.piece(sha256, number, payload, time.monotonic()):
            self._ledger.note(self._arrival.state, self._arrival.waits)
            self._ledger.changes += 1  # how far it is

    # Steps ------------------------------------------------------------------------------------------------------

    @property
    def due_mono_s(self) -> float:
        """When `tick` has something to do."""
        due_mono_s = self._looked_mono_s + _LOOK_S
        return due_mono_s if self._shadow is None else min(self._shadow.due_mono_s, due_mono_s)

    def tick(self, now_mono_s: float) -> None:
        """Go on; to be called in each turn of the loop."""
        self.is_due |= self._settings.tick()
        if self._shadow is not None:
            try:
                self._shadow.tick()
            except ShadowError as exc:
                self._compare()
                self._end(State.REFUSED, str(exc))
        if self._arrival is not None:
            self._go_on(now_mono_s)
        if now_mono_s < self._looked_mono_s + _LOOK_S:
            return
        # In a turn that took long, the agent did not run.
        seconds, self._looked_mono_s = min(now_mono_s - self._looked_mono_s, 2 * _LOOK_S), now_mono_s
        self._ledger.tend(now_mono_s)
        if self._standing.state.is_pending:
            self._look_pending()
        elif self._trial is not None and not self.is_due:
            self._look_trial(self._trial, now_mono_s, seconds)

    def _look_pending(self) -> None:
        wish, now_s = self._wish, time.time()
        if wish is None:
            self._end(State.GIVEN_UP, _UNKNOWN)
        elif now_s > wish.expires_s:
            self._end(State.GIVEN_UP, f"it has expired at {wish.expires}")
        elif waits_for_clock(wish, now_s):
            self._wait_for_clock(wish, now_s)
        elif self._shadow is not None:
            self._look_shadow(self._shadow, wish)
        elif self._arrival is None:
            self._begin_arrival()

    def _begin_arrival(self) -> None:
        wish, now_s = self._wish, time.time()
        if wish is None or wish.bundle is None:
            self._end(State.GIVEN_UP, _UNKNOWN)
            return
        if waits_for_clock(wish, now_s):
            self._wait_for_clock(wish, now_s)
            return
        self._arrival = Arrival(self._about, self._store, wish.bundle)
        self._ledger.note(State.FETCHING)

    def _wait_for_clock(self, wish: Wish, now_s: float) -> None:
        """Nothing is done whose time nobody knows: the wish may have expired."""
        self._drop_work()
        hour = f"{iso_time(now_s)[:13]}h".replace("T", " ")  # what changes each second would be told each second
        made = f"by the operator's clock, the wish was made at {wish.issued}"
        self._ledger.note(State.WAITING, f"this device's clock says {hour} UTC, and {made}: one of them is wrong")

    def _go_on(self, now_mono_s: float) -> None:
        assert self._arrival is not None
        try:
            proven = self._arrival.tick(now_mono_s)
        except EdgeError as exc:
            self._end(State.REFUSED, exc.lines[0])
            return
        if proven is None:
            self._ledger.note(self._arrival.state, self._arrival.waits)
        else:
            self._arrival = None
            self._begin_shadow(proven)

    def _begin_shadow(self, proven: Proven) -> None:
        about, wish = self._about, self._wish
        assert wish is not None
        if not wish.shadow.readings and not wish.shadow.minutes:
            self._switch(baseline_of(self._live.deeds()))
            return
        recent = RecentScores()
        try:
            self._shadow = shadow_of(proven, about, alerting=self._live.alerting(), recent=recent)
        except OSError as exc:
            self._end(State.REFUSED, f"no process can be started for the new model ({exc.strerror})")
            return
        except ShadowError as exc:
            self._end(State.REFUSED, str(exc))
            return
        self._live.shadow_with(self._shadow, recent)
        self._ledger.note(State.SHADOW)

    def _look_shadow(self, shadow: Shadowing, wish: Wish) -> None:
        self._compare()
        self._ledger.changes += 1
        old = baseline_of(shadow.old)
        problem = shadow.problem() or problem_with_deeds(shadow.new, old, wish.limits)
        if problem is not None:
            self._end(State.REFUSED, f"in the shadow: {problem}")
        elif shadow.new.scored >= wish.shadow.readings and shadow.seconds >= 60 * wish.shadow.minutes:
            self._switch(baseline_of(self._live.deeds()))

    def _compare(self) -> None:
        if self._shadow is not None:
            told = comparison_of(self._shadow.new, self._shadow.tell_old())
            self._standing.comparison = {**told, "left_out": self._shadow.left_out}

    def _switch(self, baseline: Baseline) -> None:
        """Let the next start run the new bundle."""
        standing, wish, about = self._standing, self._wish, self._about
        assert wish is not None
        assert standing.wanted is not None
        self._drop_work()
        before = standing.active, standing.former, standing.configured, standing.highest
        if standing.active is None:
            standing.configured = about.configured
        standing.former, standing.active = standing.active, standing.wanted
        standing.note_highest(standing.wanted)
        standing.probation = Probation(wanted=wish.probation, limits=wish.limits, baseline=baseline)
        standing.is_running = False
        self._ledger.note(State.SWITCHED, save=False)
        if self._ledger.save():
            log.info("switching stream=%s from=%s to=%s", self._name, about.running, standing.wanted)
            self.is_due = True
            return
        # The disk does not take it: nothing was switched, and it is tried again.
        standing.active, standing.former, standing.configured, standing.highest = before
        standing.probation = None
        self._ledger.note(State.WAITING, f"the disk does not take the switch to {standing.wanted}", save=False)

    # Probation --------------------------------------------------------------------------------------------------

    def _begin_trial(self) -> None:
        standing, updates = self._standing, self._about.config.updates
        if standing.probation is None:
            self._end(State.SETTLED, "nothing is known of a probation")
            return
        health = HealthCommand(updates.health_command, updates.health_limit_s)
        self._trial = Trial(standing.probation, self._live, health)
        self._ledger.note(State.PROBATION)

    def _look_trial(self, trial: Trial, now_mono_s: float, seconds: float) -> None:
        problem = trial.look(now_mono_s, seconds)
        self._ledger.changes += 1
        if problem is not None:
            self._go_back_from(problem)
        elif trial.is_over:
            self._settle()
        elif now_mono_s >= self._kept_mono_s + _KEEP_S:
            self._kept_mono_s = now_mono_s
            self._ledger.save()

    def _settle(self) -> None:
        standing = self._standing
        standing.is_running, standing.probation = False, None
        self._close_trial()
        self._end(State.SETTLED, "")
        self._tidy()
        self._take_later()

    def _take_later(self) -> None:
        """What was wished while something was judged."""
        if self._later is not None:
            (wish, message), self._later = self._later, None
            self._take(wish, message)

    def _problem_with_going_back(self) -> str | None:
        """Why the bundle from before cannot run; None if it can."""
        former = self._standing.former
        path = Path(self._about.configured_section.bundle) if former is None else self._store.path(former.sha256)
        return problem_with_file(path, self._about.keys)

    def _go_back_from(self, reason: str) -> None:
        """Go back, unless nothing is there that could run: a bad model is better than none."""
        problem = self._problem_with_going_back()
        if problem is None:
            self._go_back(reason)
            return
        log.error("not rolled back stream=%s reason=%r: the one before cannot run: %s", self._name, reason, problem)
        self._close_trial()
        self._standing.keep(iso_time(time.time()), f"{reason}; the one before cannot run: {problem}")
        self._ledger.save()
        self._take_later()

    def _go_back(self, reason: str) -> None:
        """Let the next start run the bundle from before."""
        standing = self._standing
        standing.go_back(iso_time(time.time()), reason)
        self._close_trial()
        log.warning("rolled back stream=%s reason=%r", self._name, reason)
        self._ledger.changes += 1
        self._ledger.save()
        # Also where the disk does not take it: what runs is bad, and its mark stands.
        self.is_due = True

    # What is told -----------------------------------------------------------------------------------------------

    @property
    def changes(self) -> int:
        """Grows with what there is to tell."""
        return self._ledger.changes

    @property
    def state(self) -> State:
        """Where the update of the bundle stands."""
        return self._standing.state

    def summary(self) -> dict[str, str | None]:
        """The same in few words, for the health message."""
        standing = self._standing
        bundle = None if standing.wanted is None else str(standing.wanted)
        return {"state": standing.state.value, "bundle": bundle, "reason": self._reason(standing.reason) or None}

    def describe(self) -> dict[str, Any]:
        """Where the updates of the stream stand, for `edge/{agent}/updates/{stream}`."""
        part = self._arrival or self._trial
        progress = {} if part is None else part.describe()
        if self._shadow is not None and self._wish is not None:
            progress = self._shadow.describe(self._wish.shadow)
        standing = self._ledger.to_tell
        told = told_of(self._settings.as_it_runs(standing), self._about, progress)
        return {**told, "reason": self._reason(standing.reason)}

    def _reason(self, reason: str) -> str:
        """Of its state, and why it does not go on from there."""
        held = f"the agent could not start anew: {self._held}" if self._held else ""
        return "; ".join(filter(None, (reason, held)))

    # The end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End what was started; what is on the disk stays."""
        self._drop_work()
        self._close_trial()
        self._settings.stop()

    def _close_trial(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def _drop_work(self) -> None:
        if self._arrival is not None:
            self._arrival.close()
        if self._shadow is not None:
            self._live.shadow_with(None, None)
            self._shadow.close()
        self._arrival = self._shadow = None

    def _end(self, state: State, reason: str) -> None:
        self._drop_work()
        self._ledger.note(state, reason)
        wanted = self._standing.wanted
        if state is not State.SETTLED and wanted is not None and wanted.sha256 not in self._standing.used:
            self._store.discard(wanted.sha256)

    def _tidy(self) -> None:
        """Leave nothing on the disk but what runs, what may have to, and what is wished for."""
        standing = self._standing
        self._store.tidy([*standing.used, *([] if standing.wanted is None else [standing.wanted.sha256])])
