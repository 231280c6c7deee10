"""What one run leaves to the next in the journal: last rows of windows, alerts of streams that are gone, and what is
known of sessions at the broker, of what it retains, and of the last birth that Sparkplug hosts heard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from edge_agent.agent.stream import Stream
from edge_agent.config.settings import Config
from edge_agent.errors import JournalError
from edge_agent.files.checksum import seal, unseal
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.event import STREAM_ASSET
from edge_agent.sources.sessions import Sessions
from edge_agent.stream.records import LEFT_RECORD, open_alert

__all__ = [
    "Announced",
    "Former",
    "announced_record",
    "birth_record",
    "former_announced",
    "former_birth",
    "former_sessions",
    "former_topics",
    "keep_birth",
    "leave_rows",
    "leave_session",
    "sessions_record",
    "take_over_rows",
    "warn_of_gone",
]

log = logging.getLogger(__name__)


def take_over_rows(journal: Journal, streams: Sequence[Stream]) -> None:
    """Every stream has taken what the stop before has left, which is of old readings from now on."""
    try:
        for stream in streams:
            journal.drop_records(stream.name, [LEFT_RECORD])
    except JournalError as exc:
        log.warning("rows that the last stop left stay in the journal error=%s", exc)


def leave_rows(journal: Journal, streams: Sequence[Stream], *, settled: bool) -> None:
    """A planned stop; whoever is killed instead has only what the journal keeps all the time.

    Args:
        journal: to write to.
        streams: that stop.
        settled: the journal has every batch. If not, one comes again, and must find all as it was but for last rows.
    """
    records = [
        (stream.name, asset, record) for stream in streams for asset, record in stream.pipeline.leave(settled=settled)
    ]
    try:
        if records:
            journal.commit(Commit(records=records))
    except JournalError as exc:
        log.warning("last rows are not kept over the stop error=%s", exc)


def warn_of_gone(journal: Journal, config: Config) -> None:
    """Tell of alerts that nothing clears any more, because their stream is no longer configured.

    Their records stay: when the stream comes back, its scores clear them.
    """
    for stream in sorted({*journal.streams()} - {section.name for section in config.streams}):
        for asset, record in journal.records(stream):
            name = open_alert(asset, record)
            if name is not None:
                where = (stream, asset or STREAM_ASSET, name)
                log.warning("alert stays open until its stream is configured again stream=%s asset=%s id=%s", *where)


_NO_STREAM = ""
"""Stands for the stream in a record of the agent itself; no stream is named so."""
_TOPICS_RECORD = "topics"
_SESSIONS_RECORD = "sessions"
_ANNOUNCED_RECORD = "announced"
_BIRTH_RECORD = "birth"


def former_sessions(journal: Journal) -> Sessions:
    """What earlier runs knew of our sessions."""
    try:
        return Sessions(dict(journal.records(_NO_STREAM)).get(_SESSIONS_RECORD))
    except (JournalError, ValueError) as exc:
        log.warning("sessions are not known any more, messages that come again may be scored twice error=%s", exc)
        return Sessions()


def sessions_record(sessions: Sessions) -> tuple[str, str, bytes]:
    """The record of what is known of our sessions, as the journal keeps it."""
    return _NO_STREAM, _SESSIONS_RECORD, sessions.record()


def leave_session(journal: Journal, sessions: Sessions) -> None:
    """A planned stop of an agent whose session ends with its connection: nothing was in flight any more."""
    sessions.left()
    try:
        journal.commit(Commit(records=[sessions_record(sessions)]))
    except JournalError as exc:
        log.warning("the next start will tell of a session that was lost error=%s", exc)


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
        record = dict(journal.records(_NO_STREAM)).get(_TOPICS_RECORD)
        known = [] if record is None else _read_topics(record)
        if new := [topic for topic in topics if topic not in known]:
            # No topic has a line break in it.
            lines = "\n".join([*known, *new]).encode()
            journal.commit(Commit(records=[(_NO_STREAM, _TOPICS_RECORD, seal(lines))]))
    except JournalError as exc:
        log.warning("topics are not noted; when they change, the broker may go on sending those of now error=%s", exc)
    return [topic for topic in known if topic not in topics]


def _read_topics(record: bytes) -> list[str]:
    try:
        return unseal(record).decode().splitlines()
    except ValueError as exc:
        # What a changed bit makes of a topic may be none, and each connection would end with it.
        log.warning("topics of earlier configurations are not known any more error=%s", exc)
        return []


class Announced(NamedTuple):
    """One asset of which a broker may retain something."""

    stream: str
    asset: str
    topic: str
    """Where it was announced."""
    problem_topic: str
    """Where it was told whether it has a problem."""


class Former(NamedTuple):
    """What was announced, as it is known from one run to the next."""

    announced: list[Announced]
    leaving: list[str]
    """Topics that have to be cleared, as what they announced is gone."""

    @property
    def topics(self) -> list[str]:
        """All topics on which a broker may retain something, each once."""
        announced = (topic for each in self.announced for topic in (each.topic, each.problem_topic))
        return [*dict.fromkeys((*announced, *self.leaving))]


def announced_record(former: Former) -> tuple[str, str, bytes]:
    """The record of what was announced, as the journal keeps it; empty where nothing is."""
    # No name or topic has a tab or a line break in it.
    lines = ["\t".join(line) for line in (*former.announced, *((topic,) for topic in former.leaving))]
    return _NO_STREAM, _ANNOUNCED_RECORD, seal("\n".join(lines).encode()) if lines else b""


def former_announced(journal: Journal) -> Former:
    """What earlier runs have announced."""
    try:
        record = dict(journal.records(_NO_STREAM)).get(_ANNOUNCED_RECORD)
        lines = [] if record is None else [line.split("\t") for line in unseal(record).decode().splitlines()]
        announced = [Announced(*line) for line in lines if len(line) == len(Announced._fields)]
        return Former(announced, [line[0] for line in lines if len(line) == 1])
    except (JournalError, ValueError) as exc:
        log.warning("what was announced is not known any more, and may stay at the broker error=%s", exc)
        return Former([], [])


def birth_record(number: int) -> tuple[str, str, bytes]:
    """The record of the last birth number of our Sparkplug node, as the journal keeps it."""
    return _NO_STREAM, _BIRTH_RECORD, seal(b"%d" % number)


def former_birth(journal: Journal) -> int | None:
    """The birth number that an earlier run had last; None where there is none."""
    try:
        record = dict(journal.records(_NO_STREAM)).get(_BIRTH_RECORD)
        return None if record is None else int(unseal(record))
    except (JournalError, ValueError) as exc:
        log.warning("the last bdSeq is not known any more, it begins anew error=%s", exc)
        return None


def keep_birth(journal: Journal, number: int) -> None:
    """Have a birth number on the disk; to be called before anybody hears of it."""
    try:
        journal.commit(Commit(records=[birth_record(number)]))
        journal.sync()
    except JournalError as exc:
        log.warning("bdSeq is not kept, the next start may use it again bdSeq=%d error=%s", number, exc)
