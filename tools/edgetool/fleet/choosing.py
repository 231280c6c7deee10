"""Whom a wish is for, and whom it must not be sent to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_agent.errors import FleetError, UsageError
from edge_agent.versions import is_semantic, precedence
from edgetool.fleet.deployment import Seen
from edgetool.fleet.listening import Listening
from edgetool.fleet.parcel import Parcel
from edgetool.fleet.plan import FleetPlan, matching
from edgetool.fleet.roster import Roster
from edgetool.fleet.told import Update
from edgetool.fleet.wishes import Sent, Wisher, is_made_up, told_sequence, wish_topic

__all__ = ["choose", "read_sent", "refuse_unfit", "see"]


def see(roster: Roster, stream: str) -> dict[str, Seen]:
    """What is known of every agent that has the stream."""
    found: dict[str, Seen] = {}
    for name, agent in roster.agents().items():
        update = roster.updates.get((name, stream))
        health = agent.streams.get(stream)
        if update is not None or health is not None:
            alerts = 0 if health is None else health.active_alerts
            found[name] = Seen(online=agent.state == "online", update=update, open_alerts=alerts)
    return found


def choose(heard: Listening, stream: str, patterns: tuple[str, ...]) -> dict[str, Seen]:
    """The agents that a wish is for, by name.

    Raises:
        UsageError: no agent that was heard of is called so, or none of them has the stream.
    """
    known = sorted(heard.roster.agents())
    named = matching(patterns, known)
    if not named:
        what = f"listened for {heard.heard_s:.0f} s, and heard of {len(known)} agents: {', '.join(known[:5]) or 'none'}"
        raise UsageError(f"--to {','.join(patterns)}: no agent is called so; {what}")
    seen = see(heard.roster, stream)
    found = {name: seen[name] for name in named if name in seen}
    if not found:
        raise UsageError(f"--stream {stream}: none of {len(named)} agents has a stream of this name")
    return found


def read_sent(heard: Listening, wisher: Wisher, agents: Sequence[str]) -> dict[str, Sent]:
    """The wishes for a bundle that the broker keeps, and that our key has signed.

    Raises:
        BrokerError: the broker refuses the subscription.
    """
    topics = {wish_topic(agent, wisher.stream, "bundle"): agent for agent in agents}
    heard.also(topics)
    heard.hear_kept()
    found: dict[str, Sent] = {}
    for message in heard.others:
        sent = wisher.read(message.topic, message.payload) if message.topic in topics and message.payload else None
        if sent is not None:
            found[topics[message.topic]] = sent
    return found


def refuse_unfit(plan: FleetPlan, parcel: Parcel, chosen: Mapping[str, Seen]) -> None:
    """Refuse before anything is sent what some agents would not take, as far as it can be known.

    Raises:
        FleetError: the text has a line for each agent.
    """
    problems = [
        f"{Path(plan.bundle).name} for {agent}: {problem}"
        for agent, seen in chosen.items()
        if (problem := _problem(plan, parcel, seen.update)) is not None
    ]
    if problems:
        raise FleetError(*problems, "nothing was sent")


def _problem(plan: FleetPlan, parcel: Parcel, update: Update | None) -> str | None:
    if update is None:
        return "it tells nothing of updates: it trusts no key ([trust] keys), has them off, or is of an older version"
    if is_made_up(told := told_sequence("bundle", update)):
        return f"it tells of a wish {told}, which no clock can have numbered so: somebody else speaks in its name"
    if update.is_under_way and (update.bundle is None or update.bundle.sha256 != parcel.sha256):
        return f"another update is under way there ({update.in_words()}); take it back first: edgetool fleet rollback"
    running = update.running
    if running is not None and running.name != parcel.name and not plan.other_model:
        return f"it runs {running.name}, and this is {parcel.name}; --other-model if that is meant"
    highest = [update.highest.get(parcel.name, "")]
    highest += [] if running is None or running.name != parcel.name else [running.version]
    floor = max((version for version in highest if is_semantic(version)), key=precedence, default=None)
    known = {each.sha256 for each in (update.bundle, running) if each is not None and each.version == parcel.version}
    is_again = parcel.sha256 in known
    if floor is not None and not plan.older and not is_again and precedence(parcel.version) <= precedence(floor):
        return f"{parcel.version} is not above {floor}, which has run there; --older if that is meant"
    return None
