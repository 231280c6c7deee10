"""What nobody at a broker needs any more: pieces of bundles that no wish names."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.errors import BrokerError
from edge_agent.update.wishes import BundlePart
from edgetool.fleet.listening import Listening
from edgetool.fleet.parcel import take_away
from edgetool.fleet.publishing import Retained
from edgetool.fleet.wishes import Wisher, wish_topic

__all__ = ["take_unwished"]


def take_unwished(heard: Listening, wisher: Wisher, retained: Retained, parts: Iterable[BundlePart]) -> None:
    """Take bundles from the broker, but for those that some agent is yet to fetch: of this deployment or another one.

    Args:
        heard: knows the agents.
        wisher: its key has signed the bundles, so whoever wishes for one has the same.
        retained: takes them away.
        parts: the bundles.

    Raises:
        BrokerError: the broker refuses a message.
    """
    try:
        wished = _wished(heard, wisher)
    except BrokerError:
        return  # this user may not read all wishes; in MQTT 5, which alone tells of it, pieces expire
    for part in {part.sha256: part for part in parts if part.url is None and part.sha256 not in wished}.values():
        take_away(part, retained)


def _wished(heard: Listening, wisher: Wisher) -> set[str]:
    """Hashes of the bundles that wishes at the broker name, of all agents and streams that were heard of."""
    streams = {(name, stream) for name, agent in heard.roster.agents().items() for stream in agent.streams}
    heard.also(wish_topic(agent, stream, "bundle") for agent, stream in streams | {*heard.roster.updates})
    heard.hear_kept()
    newest = {message.topic: message.payload for message in heard.others}
    sent = (wisher.read(topic, payload) for topic, payload in newest.items() if payload)
    return {each.bundle.sha256 for each in sent if each is not None and each.bundle is not None and each.holds}
