"""What the agent tells beside alerts, as its configuration asks: scores for pictures, and other people's systems.

Nothing of it is kept for a broker that is away, and nothing of it holds up an alert.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge_agent import __version__
from edge_agent.agent.announcing import Announcing
from edge_agent.agent.batch import Batches, Record
from edge_agent.agent.beside import Beside
from edge_agent.agent.evidence_keeper import EvidenceKeeper
from edge_agent.agent.handover import former_announced
from edge_agent.agent.picture import Picture
from edge_agent.agent.publisher import Publisher
from edge_agent.agent.sparkplug_node import SparkplugNode
from edge_agent.agent.stream import Stream
from edge_agent.config.settings import Config
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
from edge_agent.messages.scores import ScoreReport
from edge_agent.messages.text import encode
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.client import MqttClient
from edge_agent.outputs.homeassistant import Discovery
from edge_agent.outputs.metrics import Metrics

__all__ = ["Outlets", "make_metrics"]


class Outlets:
    """Of a running agent.

    Args:
        streams: all.
        config: checked settings.
        client: the connection that alerts go by.
        publisher: of alerts, which go first.
        wake: wakes the agent's loop; called on other threads, must return at once.
        journal: knows what earlier runs have told, and tells the next one.

    Raises:
        MissingExtraError: what is asked for needs a package that is not installed.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        config: Config,
        *,
        client: MqttClient,
        publisher: Publisher,
        journal: Journal,
        wake: Callable[[], None],
    ) -> None:
        self._beside = Beside(client)
        self._is_open = False
        """Something may be told in this turn of the loop."""
        self._topics = AgentTopics(config.agent.id)
        self._picture = self._make_picture(streams, config)
        self._announcing = self._make_announcing(streams, config, journal)
        self._metrics = make_metrics(config)
        self._sparkplug = None if config.sparkplug.group is None else SparkplugNode(streams, config, journal, wake)
        self._evidence = None
        if config.evidence.is_on:
            self._evidence = EvidenceKeeper(streams, config, client, publisher)

    def _make_picture(self, streams: Sequence[Stream], config: Config) -> Picture | None:
        settings = config.publish
        if settings.interval_s is None:
            return None
        return Picture(
            streams,
            agent=config.agent.id,
            interval_s=settings.interval_s,
            most_a_second=settings.scores_a_second,
            tell=self._tell,
        )

    def _make_announcing(self, streams: Sequence[Stream], config: Config, journal: Journal) -> Announcing | None:
        settings, former = config.homeassistant, former_announced(journal)
        if not settings.discovery and not former.topics:
            return None
        discovery = Discovery(
            config.agent.id, prefix=settings.prefix, version=__version__, has_scores=self._picture is not None
        )
        return Announcing(
            streams,
            discovery if settings.discovery else None,
            former=former,
            most=settings.most_assets,
            beside=self._beside,
        )

    def wait_for(self, readers: list[int], writers: list[int]) -> float:
        """Add numbers of sockets to what the loop waits for.

        Returns:
            When `tick` has something to do, on the monotonic clock; infinite where nothing is asked for.
        """
        due_mono_s = min((each.due_mono_s for each in self._parts()), default=math.inf)
        return due_mono_s if self._sparkplug is None else min(due_mono_s, self._sparkplug.wait_for(readers, writers))

    def _parts(self) -> Iterator[Picture | Announcing | EvidenceKeeper]:
        """Those that have something to do now and then."""
        return (each for each in (self._picture, self._announcing, self._evidence) if each is not None)

    def tick(self, now_mono_s: float, batches: Batches) -> None:
        """Do what is due; to be called in each turn of the loop.

        Args:
            now_mono_s: monotonic.
            batches: writes what the next run has to know, and is told where that fails.
        """
        self._is_open = self._beside.is_open(now_mono_s)
        if self._picture is not None and now_mono_s >= self._picture.due_mono_s:
            self._picture.tick(now_mono_s)
        if self._announcing is not None and now_mono_s >= self._announcing.due_mono_s:
            try:
                self._announcing.tick(now_mono_s, batches, is_open=self._is_open)
            except JournalError as exc:
                batches.journal_failed(exc)
        if self._evidence is not None:
            self._evidence.tick(now_mono_s)
        if self._sparkplug is not None:
            self._sparkplug.tick(now_mono_s)

    def records(self) -> list[Record]:
        """What the next run has to know, to begin a journal with."""
        return [part.record for part in (self._announcing, self._sparkplug) if part is not None]

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        parts = {"evidence": self._evidence, "sparkplug_node": self._sparkplug}
        found = {name: part.describe() for name, part in parts.items() if part is not None}
        return {"scores_left_out": 0 if self._picture is None else self._picture.left_out, **found}

    def note_health(self, health: Mapping[str, Any]) -> None:
        """Take what the next health message says."""
        if self._metrics is not None:
            self._metrics.note_health(health)

    def leave(self) -> None:
        """Tell what would be lost with the end; to be called before the goodbye, which waits for the answers."""
        if self._evidence is not None:
            self._evidence.leave()

    def close(self) -> None:
        """End what listens, and what has a connection of its own."""
        if self._sparkplug is not None:
            self._sparkplug.close()
        if self._metrics is not None:
            self._metrics.close()

    def _tell(self, report: ScoreReport, rank: int) -> None:
        # A moment's picture: what the connection does not take now is out of date later.
        if self._is_open:
            self._beside.publish(self._topics.scores(report.stream, report.asset), encode(report))
        if self._metrics is not None:
            self._metrics.note_report(report, rank)
        if self._sparkplug is not None:
            self._sparkplug.note(report)


def make_metrics(config: Config) -> Metrics | None:
    """What gives the metrics that a configuration asks for; it does not listen yet.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    address = config.metrics.address
    if address is None:
        return None
    interval_s = config.publish.interval_s or 0.0
    return Metrics(address, agent=config.agent.id, most_assets=config.metrics.most_assets, interval_s=interval_s)
