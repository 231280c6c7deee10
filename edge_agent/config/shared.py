"""Streams whose readings the broker shares among several agents: what they may be, and who must keep an asset at one.

Windows and alarms are memory, so the readings of an asset, and the raise and the clear of its alerts, need one agent. A
broker by itself hands each message of a group to any member. So somebody has to say that this one does not, or the
stream tells scores only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_agent.bundle import Manifest
from edge_agent.config.settings import Shared, StreamSection
from edge_agent.messages.topic_names import TopicFilters
from edge_agent.outputs.settings import PublishSettings
from edge_agent.stream.settings import CommissionSettings

__all__ = ["agent_problems", "bundle_problem", "sharing_problems"]

_GUIDE = "docs/scale.md"


def sharing_problems(good: dict[str, Any], filters: TopicFilters) -> list[str]:
    """What is wrong with `shared` and `alerts` of a stream.

    Args:
        good: the keys of its table that are right alone.
        filters: of its topic.
    """
    tells, by_topic = good.get("alerts", True), good.get("shared") is Shared.BY_TOPIC
    problems = [] if tells else _without_alerts(good)
    if not filters.is_shared:
        return [*problems, *(["shared: has no effect without $share/GROUP/ before the topic"] if by_topic else [])]
    where = f"topic = {good.get('topic')!r}"
    if by_topic and filters.spreads_assets:
        problems.append(
            f'{where}: an asset has several topics here, which shared = "by-topic" may hand to several members; let '
            f"the asset be all that differs, or split the topics by filters ({_GUIDE})"
        )
    elif tells and not by_topic:
        problems.append(
            f"{where}: the broker hands an asset's readings to any member of the group, and its alerts need one agent; "
            'split the topics by filters, or say shared = "by-topic" if the broker keeps each topic at one member, or '
            f"alerts = false to tell scores only ({_GUIDE})"
        )
    if good.get("silent_s"):
        problems.append("silent_s: an asset that is handed to another member would be told as silent; leave it out")
    return problems


def _without_alerts(good: dict[str, Any]) -> list[str]:
    commissions = good.get("commission", CommissionSettings()).readings > 0
    given = {"silent_s": good.get("silent_s"), "stuck_readings": good.get("stuck_readings")}
    named = [*(key for key, value in given.items() if value), *(["[commission] readings"] if commissions else [])]
    return [f"{key}: has no effect with alerts = false" for key in named]


def agent_problems(streams: Sequence[StreamSection], publish: PublishSettings) -> list[str]:
    """What is wrong with the streams of one agent together."""
    problems = [
        f"[[stream]] {number} alerts = false: nothing is told of its readings; give [publish] scores"
        for number, stream in enumerate(streams, start=1)
        if not stream.alerts and publish.scores is None
    ]
    shared = [stream.name for stream in streams if stream.is_shared]
    others = [stream.name for stream in streams if stream.topic is not None and not stream.is_shared]
    if shared and others:
        problems.append(
            f"[[stream]] {shared[0]!r} and {others[0]!r}: the first wants a session that ends with the connection, "
            "for other members to get them, and the others one that keeps them; run an agent for each"
        )
    return problems


def bundle_problem(section: StreamSection, manifest: Manifest) -> str | None:
    """Why a stream's readings cannot be shared with this bundle; None if they can."""
    if not section.is_shared or section.shared is Shared.BY_TOPIC:
        return None
    every_s = section.window.every_s
    if manifest.window == 1 and not manifest.model.state_size and not every_s:
        return None
    what = f"a window of {manifest.window} rows" if manifest.window > 1 else "a model with state"
    what = f"[stream.window] every_s = {every_s:g}" if every_s else what
    return (
        f"[[stream]] {section.name!r} topic: {what} needs all readings of an asset at one agent, and the broker hands "
        f'them to any member of the group; split the topics by filters, or say shared = "by-topic" if the broker keeps '
        f"each topic at one member ({_GUIDE})"
    )
