"""What the broker's session may still be subscribed to: it outlives our configuration by a week, or for ever."""

from __future__ import annotations

import logging

from edge_agent.errors import JournalError
from edge_agent.journal import Commit, Journal
from edge_agent.seal import seal, unseal

__all__ = ["former_topics"]

log = logging.getLogger(__name__)

_NO_STREAM = ""
"""Stands for the stream in a record of the agent itself; no stream is named so."""
_RECORD = "topics"


def former_topics(journal: Journal, topics: list[str]) -> list[str]:
    """Topic filters of earlier runs that are not among those of this one.

    All are noted for the runs to come. None is ever taken off the list: whether a broker that was away has heard of it,
    nobody knows, and to end a subscription that does not exist does no harm.

    Args:
        journal: keeps the list.
        topics: of this run.
    """
    known: list[str] = []
    try:
        for _, record in journal.records(_NO_STREAM):
            known = _read(record)
        if new := [topic for topic in topics if topic not in known]:
            # No topic has a line break in it.
            lines = "\n".join([*known, *new]).encode()
            journal.commit(Commit(records=[(_NO_STREAM, _RECORD, seal(lines))]))
    except JournalError as exc:
        log.warning("topics are not noted; when they change, the broker may go on sending those of now error=%s", exc)
    return [topic for topic in known if topic not in topics]


def _read(record: bytes) -> list[str]:
    try:
        return unseal(record).decode().splitlines()
    except ValueError as exc:
        # What a changed bit makes of a topic may be none, and each connection would end with it.
        log.warning("topics of earlier configurations are not known any more error=%s", exc)
        return []
