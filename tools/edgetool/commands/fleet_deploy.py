"""`edgetool fleet deploy`: a signed bundle for a fleet, wave by wave, which stops by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import UsageError
from edge_agent.messages.text import iso_time
from edge_agent.messages.update import State
from edge_agent.update.wishes import BundlePart
from edgetool.broker import BrokerAddress
from edgetool.commands.fleet_status import checked
from edgetool.fleet.choosing import choose, read_sent, refuse_unfit, see
from edgetool.fleet.deployment import Ask, Asked, Deployment, Seen, Standing, Target
from edgetool.fleet.leftovers import take_unwished
from edgetool.fleet.listening import Listening, listening
from edgetool.fleet.parcel import Parcel, open_parcel
from edgetool.fleet.plan import FleetPlan, OnHalt, expiry_of, make_plan, read_plan, wave_sizes
from edgetool.fleet.publishing import Retained
from edgetool.fleet.wishes import Sent, Wisher, next_sequence, wish_topic
from edgetool.signing import read_private_key

__all__ = ["DeploymentReport", "FleetPlan", "OnHalt", "fleet_deploy", "make_plan", "read_plan"]

_LOOK_S = 0.2
_REMIND_S = 60.0
"""After so long without a change, what is waited for is told."""
_PUT_AGAIN_S = 60.0
"""Between two looks at whether somebody has taken the pieces away."""


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """What became of a deployment."""

    bundle: str
    """Name and version."""
    sha256: str
    """Of the file."""
    stream: str
    waves: tuple[int, ...]
    """How many agents had been asked after each wave."""
    had: tuple[str, ...]
    """Agents that had the bundle before."""
    agents: dict[str, tuple[str, str]]
    """By agent, in the order of the waves: how far it is, and its own words."""
    halted: str
    """Why it was stopped; empty if it was not."""
    missing: tuple[str, ...]
    """Agents that were asked and are away: they take it as they come back, until it expires."""
    expires: float
    """Epoch seconds."""
    sent: bool
    """False of a dry run."""
    seconds: float

    @property
    def agents_by_wave(self) -> list[list[str]]:
        """The agents that each wave asks, in their order."""
        names, ends = [*self.agents], (0, *self.waves)
        return [names[start:end] for start, end in pairwise(ends)]

    @property
    def is_done(self) -> bool:
        """Whether every agent has the bundle."""
        return not self.halted and all(standing == Standing.SETTLED for standing, _ in self.agents.values())

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "agents"}
        agents = {name: {"standing": standing, "told": told} for name, (standing, told) in self.agents.items()}
        return {**plain, "is_done": self.is_done, "agents": agents}


def fleet_deploy(
    plan: FleetPlan,
    *,
    broker: BrokerAddress | None = None,
    agents: Sequence[str] = (),
    passphrase: str | None = None,
    dry_run: bool = False,
    resume: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> DeploymentReport:
    """Deploy a bundle. Interrupted, it leaves all as it is, and goes on with `resume`.

    Args:
        plan: what, for whom, and how.
        broker: the local one when not given.
        agents: ids of all that there are, where the broker gives nothing that it keeps to a filter.
        passphrase: of the key's file; None where it has none.
        dry_run: send nothing, and tell the waves.
        resume: go on with a deployment of this bundle that is under way.
        on_progress: is given a line on each change.

    Raises:
        BrokerError: the broker cannot be reached, or refuses us.
        BundleError: the bundle is missing or altered, or its version has no order.
        FleetError: some agents would not take it; nothing was sent.
        TrustError: the key has not signed the bundle.
        UsageError: the key cannot be read, no agent is meant, a deployment of this bundle is under way, or none is to
            go on with.
    """
    started_mono_s = time.monotonic()
    key = read_private_key(Path(plan.key), passphrase)
    parcel = open_parcel(Path(plan.bundle), key)
    wisher = Wisher(plan.stream, key, expiry_of(plan.expires))
    with listening(broker, checked(agents)) as heard:
        heard.hear_all()
        chosen = choose(heard, plan.stream, plan.to)
        sent = read_sent(heard, wisher, [*chosen])
        ours = {name: each for name, each in sent.items() if each.deployment == parcel.sha256}
        _check_resume(ours, parcel, resume=resume)
        refuse_unfit(plan, parcel, chosen)
        had = tuple(name for name, seen in chosen.items() if _has_it(seen, parcel) and not (resume and name in ours))
        targets = _targets({name: seen for name, seen in chosen.items() if name not in had}, ours if resume else {})
        if resume and targets and not ours:
            what = f"no agent has a wish for {parcel.name} {parcel.version}"
            raise UsageError(f"--resume: {what}, so there is nothing to go on with; leave it out to begin")
        halted = "an earlier run of it was halted" if resume and any(each.takes_back for each in ours.values()) else ""
        before = [each.bundle for each in sent.values() if each.bundle is not None]
        deployment = Deployment(plan, parcel.sha256, targets, halted)
        course = _Course(plan, parcel, wisher, heard, deployment, sent, before)
        try:
            if targets and not dry_run:
                course.run(on_progress)
        finally:
            report = course.report(had, sent=not dry_run, seconds=time.monotonic() - started_mono_s)
        return report


def _check_resume(ours: Mapping[str, Sent], parcel: Parcel, *, resume: bool) -> None:
    """Refuse to begin what is under way already: at its end, a deployment takes its wishes away."""
    open_ones = [name for name, each in ours.items() if not each.takes_back]
    if open_ones and not resume:
        what = f"{parcel.name} {parcel.version} is under way at {len(open_ones)} agents, {open_ones[0]} among them"
        raise UsageError(f"{what}; --resume goes on with it, edgetool fleet rollback takes it back")


def _has_it(seen: Seen, parcel: Parcel) -> bool:
    update = seen.update
    runs = update is not None and update.running is not None and update.running.sha256 == parcel.sha256
    return runs and update is not None and update.state in (State.SETTLED, State.NONE)


def _targets(chosen: Mapping[str, Seen], ours: Mapping[str, Sent]) -> list[Target]:
    """In the order of the waves: those that were asked before, then those that are here, then the others."""
    order = sorted(chosen, key=lambda name: (name not in ours, not chosen[name].online, name))
    targets: list[Target] = []
    for name in order:
        target = Target(name)
        before = ours.get(name)
        if before is not None:
            ask = Ask.CANCEL if before.cancel else Ask.ROLLBACK if before.takes_back else Ask.BUNDLE
            target.asked = Asked(ask, before.sequence, time.time(), before.open_alerts)
            target.standing = Standing.ASKED
        targets.append(target)
    return targets


@dataclass(slots=True)
class _Course:
    """A deployment at a broker."""

    plan: FleetPlan
    parcel: Parcel
    wisher: Wisher
    heard: Listening
    deployment: Deployment
    sent: dict[str, Sent]
    before: Sequence[BundlePart] = ()
    """Bundles that wishes of before were for."""
    _told: str = ""
    _told_mono_s: float = 0.0
    _wishes: dict[str, bytes] = field(default_factory=dict)
    """By topic, what was sent in this run."""

    def run(self, on_progress: Callable[[str], None]) -> None:
        """Until it is over, or has expired."""
        retained = Retained(self.heard.client, self.heard.hear, self.wisher.expires_s)
        connections = self.heard.connections
        if self.plan.url is None and not self.deployment.halted:
            self.parcel.put(retained)
            on_progress(f"{self.parcel.chunks} pieces of {self.parcel.name} {self.parcel.version} are at the broker")
        put_mono_s = time.monotonic()
        while time.time() < self.wisher.expires_s:
            until_mono_s = time.monotonic() + _LOOK_S
            while self.heard.hear() and time.monotonic() < until_mono_s:
                continue
            if self.heard.connections > connections:
                connections = self.heard.connections
                self._put_again(retained)
            seen = see(self.heard.roster, self.plan.stream)
            if time.monotonic() - put_mono_s >= _PUT_AGAIN_S and self._lacks_pieces(seen):
                put_mono_s = time.monotonic()
                self.parcel.put(retained)
            for target, ask in self.deployment.look(seen, time.time()):
                self._ask(retained, target, ask, seen.get(target.agent))
            retained.flush()
            self._tell(on_progress)
            if self.deployment.is_over:
                break
        self._tidy(retained)

    def _ask(self, retained: Retained, target: Target, ask: Ask, seen: Seen | None) -> None:
        alerts = 0 if seen is None else seen.open_alerts
        update = None if seen is None else seen.update
        before = self.sent.get(target.agent)
        sequence = next_sequence("bundle", update, before)
        what: dict[str, Any] = {"deployment": self.parcel.sha256, "open_alerts": alerts}
        if ask is Ask.BUNDLE:
            parts = {name: msgspec.to_builtins(getattr(self.plan, name)) for name in ("shadow", "probation", "limits")}
            part = msgspec.to_builtins(self.parcel.part(self.plan.url))
            what |= {"bundle": part, "rollback": self.plan.older}
            what |= {name: part for name, part in parts.items() if part}
        else:
            what |= {ask.value: True}
        topic = wish_topic(target.agent, self.plan.stream, "bundle")
        self._wishes[topic] = self.wisher.make(target.agent, "bundle", sequence, what)
        retained.put(topic, self._wishes[topic])
        self.sent[target.agent] = Sent(sequence)
        asked = Asked(ask, sequence, time.time(), alerts)
        self.deployment.ask(target, asked, online=seen is not None and seen.online)

    def _put_again(self, retained: Retained) -> None:
        """After a new connection: a broker that keeps nothing over a restart has lost it. Agents know a wish again."""
        if self.plan.url is None and not self.deployment.halted:
            self.parcel.put(retained)
        for target in self.deployment.targets:
            wish = self._wishes.get(topic := wish_topic(target.agent, self.plan.stream, "bundle"))
            if wish is not None and self._is_ours(target):
                retained.put(topic, wish)

    def _lacks_pieces(self, seen: Mapping[str, Seen]) -> bool:
        """Whether an agent waits in the midst of its pieces: perhaps somebody has taken them from the broker."""
        if self.plan.url is not None or self.deployment.halted:
            return False
        told = (seen[each.agent].update for each in self.deployment.targets if each.agent in seen and each.asked)
        ours = (each for each in told if each and each.bundle and each.bundle.sha256 == self.parcel.sha256)
        return any(each.state == State.WAITING and "chunks" in each.progress for each in ours)

    def _is_ours(self, target: Target) -> bool:
        """False where the wish at an agent's topic may be another's, which is not to be written over."""
        return target.standing is not Standing.REPLACED

    def _tell(self, on_progress: Callable[[str], None]) -> None:
        counts = self.deployment.counts()
        words = ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items()))
        line = f"wave {self.deployment.wave + 1} of {len(self.deployment.sizes)}: {words}"
        if (next_s := self.deployment.next_wave_s) is not None:
            line += f"; the next wave at {iso_time(next_s)[11:19]}"
        if self.deployment.halted:
            line = f"HALTED: {self.deployment.halted}; {words}"
        now_mono_s = time.monotonic()
        if line != self._told:
            self._told, self._told_mono_s = line, now_mono_s
            on_progress(line)
        elif now_mono_s - self._told_mono_s >= _REMIND_S and (busy := self.deployment.longest_under_way) is not None:
            self._told_mono_s = now_mono_s
            target, asked = busy
            told = target.told or "has said nothing of it yet"
            on_progress(f"{line}; {target.agent}, asked {time.time() - asked.at_s:.0f} s ago: {told}")

    def _tidy(self, retained: Retained) -> None:
        """Take away what nobody needs any more: wishes that were obeyed, and pieces that nobody is to fetch; also those
        of wishes that ours have taken the place of.
        """
        missing = {*self.deployment.missing}
        is_expired = time.time() >= self.wisher.expires_s
        for target in self.deployment.targets:
            if target.asked is not None and self._is_ours(target) and (target.agent not in missing or is_expired):
                retained.put(wish_topic(target.agent, self.plan.stream, "bundle"), b"")
        retained.flush()
        take_unwished(self.heard, self.wisher, retained, [self.parcel.part(self.plan.url), *self.before])

    def report(self, had: tuple[str, ...], *, sent: bool, seconds: float) -> DeploymentReport:
        deployment = self.deployment
        sizes = deployment.sizes if deployment.targets else wave_sizes(self.plan.waves, 0)
        return DeploymentReport(
            bundle=f"{self.parcel.name} {self.parcel.version}",
            sha256=self.parcel.sha256,
            stream=self.plan.stream,
            waves=tuple(sizes),
            had=had,
            agents={target.agent: (str(target.standing), target.told) for target in deployment.targets},
            halted=deployment.halted,
            missing=tuple(deployment.missing),
            expires=self.wisher.expires_s,
            sent=sent,
            seconds=seconds,
        )
