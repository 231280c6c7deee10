"""`edgetool sniff`: listens to a broker and proposes the `[[stream]]` tables that read what it hears."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.bundle import open_bundle
from edge_agent.errors import UsageError
from edge_agent.messages.text import shown
from edgetool.broker import BrokerAddress, connected
from edgetool.paths import StrPath, as_path
from edgetool.progress import counted
from edgetool.sniffing.groups import Group, Heard
from edgetool.sniffing.proposals import Proposal, propose
from edgetool.subscription import Subscription

__all__ = ["SniffReport", "sniff"]

_TOPICS_SHOWN = 3
_OTHERS_SHOWN = 50
_FORM_SHOWN = 100


@dataclass(frozen=True, slots=True)
class SniffReport:
    """What was heard, and what reads it."""

    messages: int
    seconds: float
    groups: list[tuple[Group, Proposal | None]]
    """Messages of one form on topics of one form, with the stream that reads them; those that are proposed first."""
    bundle: str | None
    """The bundle whose channels were looked for."""
    left_out: int = 0
    """Messages that were too large, or of too many kinds, to be looked at."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "messages": self.messages,
            "seconds": round(self.seconds, 1),
            "left_out": self.left_out,
            "groups": [_described(group, proposal) for group, proposal in self.groups],
            "toml": self.toml(),
        }

    def toml(self) -> str:
        """The proposed streams, for a person to read and to put into `agent.toml`."""
        blocks = []
        for number, (group, proposal) in enumerate(self._proposed(), start=1):
            name = f"stream-{number}" if number > 1 or self.bundle is None else Path(self.bundle).stem.partition("-")[0]
            comment = [_comment(f"{group.messages} messages on {_topics(group)}"), _comment(_channels(proposal))]
            comment += [_comment(f"look: {remark}") for remark in proposal.remarks]
            blocks.append("\n".join([*comment, proposal.toml(name, self.bundle or "NAME.edge")]))
        others = [(group, proposal) for group, proposal in self.groups if proposal is None]
        if others:
            lines = [
                _comment(f"not proposed: {group.messages} messages on {_topics(group)}: {group.form[:_FORM_SHOWN]}")
                for group, _ in others[:_OTHERS_SHOWN]
            ]
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks) + "\n"

    def _proposed(self) -> list[tuple[Group, Proposal]]:
        return [(group, proposal) for group, proposal in self.groups if proposal is not None]


def _comment(text: str) -> str:
    """A line of TOML that says something: no name that a sender chose may begin another line in it."""
    return f"# {shown(text)}"


def sniff(
    topics: Sequence[str],
    *,
    seconds: float = 30.0,
    bundle: StrPath | None = None,
    channels: Sequence[str] = (),
    broker: BrokerAddress | None = None,
) -> SniffReport:
    """Listen, group what comes by topic and form, and find the stream that reads each group.

    Args:
        topics: filters of MQTT, as `plant/#`.
        seconds: how long; Ctrl-C ends it earlier.
        bundle: whose channels are looked for.
        channels: their names, in its place; with neither, whatever numbers there are.
        broker: the local one when not given.

    Raises:
        UsageError: no topic is given, or both a bundle and channels.
        BundleError: the bundle cannot be opened.
        BrokerError: the broker cannot be reached, or refuses us or a subscription.
    """
    if not topics:
        raise UsageError("sniff: needs --topic, such as 'plant/#'")
    if bundle is not None and channels:
        raise UsageError("sniff: --bundle says which channels to look for, so leave --channels out")
    wanted: Mapping[str, str | None] | None = dict.fromkeys(channels) if channels else None
    if bundle is not None:
        manifest = open_bundle(Path(str(as_path(bundle)))).manifest
        wanted = {channel.name: channel.unit or None for channel in manifest.channels}
    heard, arrived = Heard(), Subscription(list(topics))
    started, told_s = time.monotonic(), 0
    with (
        suppress(KeyboardInterrupt),
        connected(broker or BrokerAddress(), arrived.listen),
        arrived,
        counted(f"listening to {', '.join(topics)}", round(seconds) or 1) as advance,
    ):
        while (passed_s := time.monotonic() - started) < seconds:
            message = arrived.get()
            if message is not None:
                heard.add(message)
            if passed_s >= told_s + 1:
                advance(int(passed_s) - told_s)
                told_s = int(passed_s)
    passed_s = time.monotonic() - started
    with _silent():
        found = [(group, propose(group, wanted)) for group in heard.groups()]
    found.sort(key=lambda pair: (pair[1] is None, (0, False, 0) if pair[1] is None else _worst_last(pair[1])))
    return SniffReport(heard.messages, passed_s, found, None if bundle is None else str(bundle), heard.left_out)


def _worst_last(proposal: Proposal) -> tuple[int, bool, int]:
    channels, timed, values = proposal.rank
    return -channels, not timed, -values


@contextmanager
def _silent() -> Iterator[None]:
    """What a decoder logs of messages is of tables that are only tried."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _described(group: Group, proposal: Proposal | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messages": group.messages,
        "topics": list(group.topics)[:_OTHERS_SHOWN],
        "form": group.form,
    }
    if proposal is None:
        return {**found, "proposal": None}
    return {
        **found,
        "proposal": {
            "topic": proposal.topic,
            "asset": proposal.asset,
            "payload": proposal.table,
            "channels": proposal.channels,
            "samples": proposal.samples,
            "rejected": proposal.rejected,
            "timed": proposal.timed,
            "remarks": proposal.remarks,
        },
    }


def _topics(group: Group) -> str:
    names = list(group.topics)
    more = f" and {len(names) - _TOPICS_SHOWN} more topics" if len(names) > _TOPICS_SHOWN else ""
    return ", ".join(names[:_TOPICS_SHOWN]) + more


def _channels(proposal: Proposal) -> str:
    found = ", ".join(f"{name} {count}" for name, count in proposal.channels.items() if count)
    return f"of {proposal.samples} looked at, values of {found}"
