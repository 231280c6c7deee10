"""Announces assets to Home Assistant, and takes back what it announced once an asset is forgotten.

What is announced is retained by the broker, so it is noted in the journal before: a later run, or one without the
stream or without discovery, removes it. Everything is told again on each connection, because a broker may have lost it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from edge_agent.agent.batch import Batches, Record
from edge_agent.agent.beside import Beside
from edge_agent.agent.handover import Announced, Former, announced_record
from edge_agent.agent.stream import Stream
from edge_agent.journal.journal import Commit
from edge_agent.messages.event import STREAM_ASSET
from edge_agent.mqtt.message import Message
from edge_agent.outputs.homeassistant import Discovery

__all__ = ["Announcing"]

_AGENT = ("", "")
"""Stands for the agent itself, in place of a stream and an asset; neither can be called so."""
_LOOK_S = 1.0
_AT_ONCE = 20
"""Messages in one turn of the loop."""
_TAKEN_S = 10.0
"""What was sent at QoS 0 counts as taken when the connection has lasted this long behind it."""


class Announcing:
    """Of a running agent.

    Args:
        streams: all.
        discovery: makes the messages; None where nothing is to be announced any more.
        former: what earlier runs have announced.
        most: assets that are announced, those known longest; without limit for streams as a whole.
        beside: the way of the messages.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        discovery: Discovery | None,
        *,
        former: Former,
        most: int,
        beside: Beside,
    ) -> None:
        self._streams = {stream.name: stream for stream in streams} if discovery else {}
        self._discovery = discovery
        self._most = most
        self._beside = beside
        self._announced = {(each.stream, each.asset): each for each in former.announced}
        self._leaving: dict[str, float | None] = dict.fromkeys(former.leaving)
        """Topics that are cleared, each with when it was; None if it has to be."""
        self._told: dict[tuple[str, str], bool] = {}
        """Of what was announced on this connection, whether it was told to have a problem."""
        self._met: set[tuple[str, str]] = set()
        """Assets that this run has heard of; one that is gone was forgotten."""
        self._messages: deque[Message] = deque()
        self._session = ""
        self._began_mono_s: float | None = None
        self._recorded = self.record
        self.due_mono_s = 0.0
        """When `tick` has something to do."""

    @property
    def record(self) -> Record:
        """All that a broker may retain, as the journal keeps it."""
        return announced_record(Former([*self._announced.values()], [*self._leaving]))

    def tick(self, now_mono_s: float, batches: Batches, *, is_open: bool) -> None:
        """Tell what has changed; to be called in each turn of the loop.

        Args:
            now_mono_s: monotonic.
            batches: writes what was announced.
            is_open: something may be told now.

        Raises:
            JournalError: the disk is full or broken; what is new is announced later.
        """
        if self._began_mono_s is None:
            self._began_mono_s = now_mono_s
        self.due_mono_s = now_mono_s + _LOOK_S
        if not is_open or not batches.takes_more:
            return
        if self._beside.session != self._session:
            self._begin_anew()
        if not self._messages:
            self._look(now_mono_s, now_mono_s - self._began_mono_s)
            record = self.record
            if record != self._recorded:
                # On the disk before it is announced: the run after a kill must know of it.
                batches.add(Commit(records=[record]))
                self._recorded = record
            self._tell_problems()
        if self._send():
            self.due_mono_s = now_mono_s

    def _begin_anew(self) -> None:
        """On a new connection all is told again."""
        self._session = self._beside.session
        self._told.clear()
        self._messages.clear()
        self._leaving = dict.fromkeys(self._leaving)

    def _send(self) -> bool:
        """Send some of what waits; gives whether more would go now. A topic that is refused is passed over."""
        for _ in range(min(_AT_ONCE, len(self._messages))):
            message = self._messages[0]
            is_sent = self._beside.publish(message.topic, message.payload, retain=message.retain)
            if not is_sent and self._beside.may_publish(message.topic):
                return False
            self._messages.popleft()
        return bool(self._messages)

    def _look(self, now_mono_s: float, run_s: float) -> None:
        """Find out what is to be announced, and what is to be cleared."""
        wanted = {(each.stream, each.asset): each for each in self._wanted(run_s)}
        for key in [key for key, known in self._announced.items() if wanted.get(key) != known]:
            gone = self._announced[key]
            self._told.pop(key, None)
            self._leaving.update(dict.fromkeys((gone.topic, gone.problem_topic)))
        self._announced = wanted
        for each in wanted.values():
            self._leaving.pop(each.topic, None)
            self._leaving.pop(each.problem_topic, None)
        for topic, cleared_s in [*self._leaving.items()]:
            if cleared_s is None:
                self._messages.append(Message(topic, b"", retain=True))
                self._leaving[topic] = now_mono_s
            elif now_mono_s - cleared_s > _TAKEN_S:
                del self._leaving[topic]

    def _wanted(self, run_s: float) -> Iterator[Announced]:
        """What is to be announced: those that are, and others as there is room."""
        count = 0
        if self._discovery is not None:
            yield Announced(*_AGENT, self._discovery.agent_topic, self._discovery.agent_topic)
        for name, stream in self._streams.items():
            yield self._made(name, STREAM_ASSET)
            idle_s = stream.loaded.section.idle_s
            known = stream.pipeline.assets()
            self._met |= {key for key in self._announced if key[0] == name and key[1] in known}
            # After a start nobody has heard of most assets yet.
            is_young = not idle_s or run_s < idle_s
            for key in [key for key in self._announced if key[0] == name and key[1] != STREAM_ASSET]:
                if (key[1] in known or (is_young and key not in self._met)) and count < self._most:
                    count += 1
                    yield self._made(*key)
        for name, stream in self._streams.items():
            new = (asset for asset in stream.pipeline.roster.assets() if (name, asset) not in self._announced)
            for asset in islice(new, self._most - count):
                count += 1
                yield self._made(name, asset)

    def _made(self, stream: str, asset: str) -> Announced:
        assert self._discovery is not None
        topics = self._discovery.topic(stream, asset), self._discovery.problem_topic(stream, asset)
        return Announced(stream, asset, *topics)

    def _tell_problems(self) -> None:
        """Announce what is new on this connection, and tell who has a problem now, or no longer."""
        if self._discovery is None:
            return
        untold = {name: {*stream.suppression.untold()} for name, stream in self._streams.items()}
        if _AGENT not in self._told:
            self._told[_AGENT] = False
            self._messages.append(self._discovery.agent())
        for key in [key for key in self._announced if key != _AGENT]:
            name, asset = key
            stream = self._streams[name]
            is_problem = asset not in untold[name] and stream.pipeline.standings.has_alert(asset)
            if key not in self._told:
                manifest = stream.loaded.bundle.manifest
                self._messages.append(self._discovery.asset(name, asset, f"{manifest.name} {manifest.version}"))
            if self._told.get(key) is not is_problem:
                self._told[key] = is_problem
                self._messages.append(self._discovery.problem(name, asset, is_problem=is_problem))
