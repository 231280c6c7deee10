"""The waves of a deployment, as a pure machine: what was seen of agents goes in, what they are to be asked comes out.

All that it must remember over an interruption is in the wishes that the broker keeps, and in what agents tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge_agent.messages.update import State
from edgetool.fleet.plan import FleetPlan, Halts, OnHalt, length_of, wave_sizes
from edgetool.fleet.told import Update

__all__ = ["SILENT", "Ask", "Asked", "Deployment", "Seen", "Standing", "Target"]

SILENT = "does it trust this key, and is its clock right?"
"""What is to be looked at of an agent that is online and does not answer."""
_AWAY_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of an agent and its stream at one moment."""

    online: bool
    update: Update | None
    open_alerts: int = 0


class Ask(StrEnum):
    """What an agent is asked for."""

    BUNDLE = "bundle"
    CANCEL = "cancel"
    """Nothing, if it has not switched; else to go back, as long as it is on probation."""
    ROLLBACK = "rollback"
    """To go back, though all seemed well."""


class Standing(StrEnum):
    """How far an agent is."""

    TO_COME = "to come"
    ASKED = "asked"
    """It has not said anything of it yet."""
    UNDER_WAY = "under way"
    SETTLED = "settled"
    FAILED = "failed"
    """It has refused the bundle, or rolled it back by itself; or it should go back, and cannot."""
    TAKEN_BACK = "taken back"
    """It has what it had before, because it was asked to."""
    REPLACED = "replaced"
    """It has obeyed a newer wish, which is none of ours: somebody else has it in hand."""


_OUT = (Standing.FAILED, Standing.TAKEN_BACK, Standing.REPLACED)
"""Where a deployment that is halted waits for an agent no more, and asks it for nothing."""


@dataclass(slots=True)
class Asked:
    """The last that an agent was asked for."""

    ask: Ask
    sequence: int
    at_s: float
    open_alerts: int = 0
    """Of its stream then."""


@dataclass(slots=True)
class Target:
    """One agent."""

    agent: str
    asked: Asked | None = None
    standing: Standing = Standing.TO_COME
    told: str = ""
    """Its state in words."""
    away_since_s: float | None = None
    """None while it is online."""
    is_away: bool = False
    """It is not waited for: it was never here, or is gone for longer than a start takes."""
    is_silent: bool = False
    """It has said nothing of what it was asked for, for too long."""
    was_online: bool = False
    """As it was asked, or since."""
    has_switched: bool = False
    first_sequence: int = 0
    """Of the wish for the bundle; 0 where an earlier run has sent it."""


class Deployment:
    """Of one bundle.

    Args:
        plan: checked.
        sha256: of the bundle's file.
        targets: agents in their order; those that were asked before come first.
        halted: why it was halted in an earlier run; empty if it was not.
    """

    def __init__(self, plan: FleetPlan, sha256: str, targets: Sequence[Target], halted: str = "") -> None:
        self.targets = [*targets]
        self.sizes = wave_sizes(plan.waves, len(self.targets))
        self.halted = halted
        """Why it goes on no more; empty while it does."""
        self._sha256 = sha256
        self._halts = Halts.of(plan.halt_on)
        self._on_halt = plan.on_halt
        self._soak_s = length_of("--soak", plan.soak)
        self._away_s = min(self._halts.offline_s, _AWAY_S)
        self._answer_s = length_of("--answer-within", plan.answer_within)
        self._well_since_s: float | None = None

    @property
    def wave(self) -> int:
        """Number of the wave, from 0."""
        asked = sum(target.asked is not None for target in self.targets)
        return next((number for number, size in enumerate(self.sizes) if asked <= size), len(self.sizes) - 1)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for but agents that are away."""
        if self.halted:
            return all(self._is_out(target) or target.is_away or target.is_silent for target in self.targets)
        return all(target.asked is not None and self._is_well(target) for target in self.targets)

    @property
    def next_wave_s(self) -> float | None:
        """When the next wave comes if all stays well, epoch seconds; None while that is not known."""
        return None if self._well_since_s is None or self.halted else self._well_since_s + self._soak_s

    @property
    def missing(self) -> list[str]:
        """Agents that are away, and have not said what became of it."""
        done = (Standing.SETTLED, *_OUT)
        return [t.agent for t in self.targets if t.asked is not None and t.standing not in done]

    @property
    def longest_under_way(self) -> tuple[Target, Asked] | None:
        """Of the agents that are at work on it, the one that was asked first, and for what; None if there is none."""
        busy = (Standing.ASKED, Standing.UNDER_WAY)
        asked = [(t, t.asked) for t in self.targets if t.asked is not None and t.standing in busy]
        return min(asked, key=lambda pair: pair[1].at_s, default=None)

    def counts(self) -> Counter[str]:
        """How many agents stand where."""
        return Counter(target.standing for target in self.targets)

    def look(self, seen: Mapping[str, Seen], now_s: float) -> list[tuple[Target, Ask]]:
        """Take what is seen; gives whom to ask what now, after which `ask` is to be called.

        Args:
            seen: by agent; one that is not there is away.
            now_s: epoch seconds.
        """
        for target in self.targets:
            self._take(target, seen.get(target.agent, Seen(online=False, update=None)), now_s)
        if not self.halted:
            self.halted = self._halt(seen, now_s)
        if self.halted:
            return [(target, ask) for target in self.targets if (ask := self._undo(target)) is not None]
        return [(target, Ask.BUNDLE) for target in self._next(now_s)]

    def ask(self, target: Target, asked: Asked, *, online: bool) -> None:
        """An agent was asked."""
        target.asked = asked
        if asked.ask is Ask.BUNDLE:
            target.standing, target.was_online = Standing.ASKED, online
            target.first_sequence = asked.sequence

    def _take(self, target: Target, seen: Seen, now_s: float) -> None:
        if seen.online:
            target.away_since_s, target.was_online = None, target.asked is not None
        elif target.away_since_s is None:
            target.away_since_s = now_s
        since_s = target.away_since_s
        # An agent starts anew for a new bundle, and says goodbye meanwhile.
        target.is_away = since_s is not None and (not target.was_online or now_s - since_s >= self._away_s)
        update, asked = seen.update, target.asked
        target.is_silent = asked is not None and now_s - asked.at_s >= self._answer_s
        if asked is None or update is None:
            return
        is_ours = update.bundle is not None and update.bundle.sha256 == self._sha256
        told = -1 if update.sequence is None else update.sequence
        # Nobody answers a cancel who had come to an end before it.
        if told < asked.sequence and not (asked.ask is Ask.CANCEL and is_ours and told >= target.first_sequence):
            return
        target.is_silent = False
        target.told = update.in_words()
        running = "" if update.running is None else update.running.sha256
        target.has_switched = running == self._sha256
        if told > asked.sequence and not is_ours:
            target.standing = Standing.REPLACED
        elif asked.ask is not Ask.BUNDLE:
            # An agent that had settled before a cancel came goes on with the new bundle.
            if update.is_final or update.state == State.NONE:
                went_on = asked.ask is Ask.CANCEL and update.state == State.SETTLED and is_ours
                could_not = target.has_switched and update.state in (State.REFUSED, State.KEPT)
                ended = Standing.FAILED if could_not else Standing.TAKEN_BACK
                target.standing = Standing.SETTLED if went_on else ended
        elif update.state == State.SETTLED and is_ours:
            target.standing = Standing.SETTLED
        elif update.is_final:
            target.standing = Standing.FAILED
        else:
            target.standing = Standing.UNDER_WAY

    def _halt(self, seen: Mapping[str, Seen], now_s: float) -> str:
        """Why it has to stop; empty if it need not."""
        for target in self.targets:
            if target.asked is None:
                continue
            if target.standing is Standing.REPLACED:
                return f"{target.agent} obeys another wish, sent after ours ({target.told}); does somebody else deploy?"
            if self._halts.rollback and target.standing is Standing.FAILED:
                return f"{target.agent} has {target.told}"
            away = None if target.away_since_s is None else now_s - target.away_since_s
            if target.was_online and away is not None and away >= self._halts.offline_s:
                return f"{target.agent} is offline for {away:.0f} s"
            if target.is_silent and away is None:
                return f"{target.agent} says nothing of its wish for {self._answer_s:.0f} s; {SILENT}"
        switched = [target for target in self.targets if target.has_switched and target.asked is not None]
        before = sum(target.asked.open_alerts for target in switched if target.asked is not None)
        now = sum(seen[target.agent].open_alerts for target in switched if target.agent in seen)
        if now > max(before, 1) * self._halts.alerts:
            return f"the {len(switched)} agents that have it have {now} open alerts, and had {before} before"
        return ""

    def _undo(self, target: Target) -> Ask | None:
        """What an agent of a deployment that is halted is asked for; None for nothing."""
        gone = (Standing.FAILED, Standing.REPLACED)
        if target.asked is None or target.asked.ask is Ask.ROLLBACK or target.standing in gone:
            return None
        if target.asked.ask is Ask.CANCEL:
            came_late = target.standing is Standing.SETTLED and self._on_halt is OnHalt.ROLLBACK
            return Ask.ROLLBACK if came_late else None
        if target.has_switched and self._on_halt is OnHalt.KEEP:
            return None
        return Ask.ROLLBACK if target.standing is Standing.SETTLED else Ask.CANCEL

    def _is_out(self, target: Target) -> bool:
        """Whether a deployment that is halted waits for an agent no more."""
        if target.asked is None or target.standing in _OUT:
            return True
        return self._on_halt is OnHalt.KEEP and target.standing is Standing.SETTLED

    def _is_well(self, target: Target) -> bool:
        """Whether the next wave need not wait for an agent: one that failed would have halted all if it were to."""
        return target.standing in (Standing.SETTLED, Standing.FAILED) or target.is_away

    def _next(self, now_s: float) -> list[Target]:
        """Agents whose turn it is."""
        asked = sum(target.asked is not None for target in self.targets)
        if asked == len(self.targets):
            return []
        if not all(self._is_well(target) for target in self.targets if target.asked is not None):
            self._well_since_s = None
            return []
        size = next(size for size in self.sizes if size > asked)
        if asked in self.sizes:
            self._well_since_s = now_s if self._well_since_s is None else self._well_since_s
            if now_s - self._well_since_s < self._soak_s:
                return []
        self._well_since_s = None
        return [target for target in self.targets if target.asked is None][: size - asked]
