"""A stream at work: its decoder, its pipeline and its engine, and which topics are its own."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.agent.counters import Counters
from edge_agent.bundle import Bundle
from edge_agent.config.settings import StreamSection
from edge_agent.engine.fallback import FallbackEngine
from edge_agent.engine.upkeep import Upkeep
from edge_agent.errors import DataError
from edge_agent.journal.journal import Commit
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.event import STREAM_ASSET, AlertEvent
from edge_agent.messages.reading import Rejection, RejectReason
from edge_agent.messages.scores import AssetState
from edge_agent.messages.text import encode, printable
from edge_agent.messages.topic_names import AgentTopics, TopicFilters, can_be_asset
from edge_agent.messages.values import read_iso_time
from edge_agent.sources.decode import Decoder
from edge_agent.sources.polled import PolledInput
from edge_agent.stream.evidence import Recorder
from edge_agent.stream.outcome import Outcome
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.ranges import Ranges
from edge_agent.stream.recent import RecentScores
from edge_agent.stream.records import keys_of
from edge_agent.stream.suppression import Suppression
from edge_agent.update.comparison import Deeds, readings_needed
from edge_agent.update.shadowing import Shadowing

__all__ = ["LoadedStream", "Stream"]

log = logging.getLogger(__name__)

_KEEP_INTERVAL_S = 60.0
_TELL_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class LoadedStream:
    """A stream's settings with its opened bundle."""

    section: StreamSection
    bundle: Bundle


@dataclass(slots=True, eq=False)
class Stream:
    """One stream at work."""

    loaded: LoadedStream
    topics: AgentTopics
    filters: TopicFilters
    decoder: Decoder
    pipeline: Pipeline
    ranges: Ranges
    suppression: Suppression
    engine: FallbackEngine
    upkeep: Upkeep
    most_listened_s: float
    """No more is taken for listened between two calls of `listen`, seconds."""
    counters: Counters = field(default_factory=Counters)
    recorder: Recorder | None = None
    """Collects the readings around raises, where that is asked for."""
    polled: PolledInput | None = None
    """What asks devices for its readings, where something does."""
    shadow: Shadowing | None = None
    """Scores the same readings with another bundle, while an update is tried."""
    _listened_mono_s: float | None = None
    """When `listen` was called last; None before the first time."""
    _keep_mono_s: float = 0.0
    _kept_scored: int = 0
    _tell_mono_s: float = 0.0
    _told_forgotten: int = 0

    @property
    def name(self) -> str:
        """Of the stream."""
        return self.loaded.section.name

    @property
    def ahead_s(self) -> float:
        """How far ahead of the device's clock readings may be, seconds; infinite without a limit."""
        section = self.loaded.section
        # What is in a file may be of any time.
        return section.window.ahead_s if section.window.ahead_s and section.input is None else math.inf

    def conclude(self, readings: int, outcome: Outcome, commit: Commit, *, delayed: bool) -> None:
        """Count what a batch did, log its events, and add it to a commit.

        Args:
            readings: in the batch.
            outcome: of the batch.
            commit: gets the records to keep and the events to publish.
            delayed: there is no connection to the broker.
        """
        self.counters.readings += readings - len(outcome.refused)
        self.counters.scored += outcome.scored
        self.counters.not_finite += outcome.not_finite
        self.counters.at_limit += outcome.at_limit
        if outcome.released:
            # They stand on what is not in the journal: the agent's clock, counts, or which assets were remembered.
            commit.comes_again = False
        for asset, record in outcome.records:
            commit.records.append((self.name, asset, record))
        for event in outcome.events:
            untold = self.suppression.sift(event, self._known_since(event.asset))
            self.counters.count_event(event.event)
            values = (event.event, self.name, event.asset, event.level, event.score, event.threshold, event.id)
            log.info(
                "alert %s stream=%s asset=%s level=%s score=%.4g threshold=%.4g id=%s%s",
                *values,
                "" if untold is None else f" untold={untold}",
            )
        self._take_told(commit, delayed=delayed)

    def _take_told(self, commit: Commit, *, delayed: bool) -> None:
        """What is told now: of alerts that come or were kept back, of storms and of mutes."""
        events, records = self.suppression.take()
        for event in events:
            if self.recorder is not None and isinstance(event, AlertEvent) and event.has_readings:
                raised_s = read_iso_time(event.since)
                self.recorder.begin(event.id, self.name, event.asset, raised_s, time.monotonic())
            topic = self.topics.alert(self.name, event.asset)
            commit.since[topic] = self._known_since(event.asset)
            if not isinstance(event, AlertEvent):
                log.warning("alerts %s stream=%s asset=%s: %s", event.event, self.name, event.asset, event.describe())
            commit.events.append((topic, encode(event.as_delayed(delayed) if isinstance(event, AlertEvent) else event)))
        if records:
            commit.comes_again = False  # it stands on alerts and clocks that the journal does not know
            commit.records += [(self.name, *record) for record in records]

    def _known_since(self, asset: str) -> int:
        return 0 if asset == STREAM_ASSET else self.pipeline.roster.known_since(asset)

    def refusals(self, deliveries: Sequence[Delivery], assets: Sequence[str]) -> list[Rejection]:
        """What is to be told of readings that there was no room for.

        Args:
            deliveries: the batch that they are of.
            assets: of each such reading; each shows the last message of its asset.
        """
        count, bound = len(self.pipeline.assets()), self.pipeline.room.bound
        why = "for their alerts or limits of their own"
        detail = f"none of the assets (now {count}) may be forgotten, {why}; raise {bound}"
        last = {delivery.topic.asset: delivery for delivery in deliveries}
        return [
            Rejection(RejectReason.TOO_MANY_ASSETS, detail, last[asset].topic.name, last[asset].payload)
            for asset in assets
        ]

    def tell(self, now_mono_s: float) -> None:
        """Log what nobody would see otherwise; to be called now and then."""
        self.pipeline.missing.tell()
        self.ranges.tell(now_mono_s)
        self.decoder.unreadable.tell(self.name, now_mono_s)
        count = self.pipeline.roster.forgotten - self._told_forgotten
        if count and now_mono_s >= self._tell_mono_s:
            self._tell_mono_s = now_mono_s + _TELL_INTERVAL_S
            self._told_forgotten += count
            bound = self.pipeline.room.bound
            log.warning("assets forgotten for new ones stream=%s count=%d bound=%r", self.name, count, bound)

    def check_input(self, given: int) -> None:
        """Where lines came from a file or a pipe that has ended, see that readings were among them.

        Raises:
            DataError: none of so many lines was one.
        """
        if given and not self.counters.readings:
            place = self.loaded.section.input
            raise DataError(f"[[stream]] {self.name}: no line of input {place} was a reading; see the log")

    def finish(self) -> None:
        """Say what came of the readings, and keep what was learnt."""
        self.tell(math.inf)
        told = self.counters
        # What came of a file or a pipe, nobody has watched at a broker.
        unseen = bool(told.rejected) and self.loaded.section.input is not None
        log.log(
            logging.WARNING if unseen else logging.INFO,
            "stream stopped name=%s received=%d readings=%d scored=%d raised=%d cleared=%d rejected=%s",
            self.name,
            told.received,
            told.readings,
            told.scored,
            told.raised,
            told.cleared,
            ", ".join(f"{count} {reason}" for reason, count in told.rejected.items()) or "none",
        )
        self.upkeep.keep_mix()

    def records_due(self, now_mono_s: float) -> list[tuple[str, bytes]]:
        """(asset, record) pairs that no batch has brought into the journal, among them those of assets that were silent
        for too long, which are forgotten.
        """
        records = self._drift_records(now_mono_s)
        # Names of assets come from topics, and anybody may write to a new one.
        gone = self.forget_idle()
        if gone:
            idle_s = self.loaded.section.idle_s
            log.info("assets forgotten stream=%s count=%d idle_s=%.0f", self.name, len(gone), idle_s)
        return [*records, *((key, b"") for asset in gone for key in keys_of(asset))]

    def _drift_records(self, now_mono_s: float) -> list[tuple[str, bytes]]:
        """Once a minute, to spare the disk."""
        if now_mono_s < self._keep_mono_s or self.counters.scored == self._kept_scored:
            return []
        self._keep_mono_s, self._kept_scored = now_mono_s + _KEEP_INTERVAL_S, self.counters.scored
        return self.pipeline.drift.records()

    def recommission(self, asset: str | None) -> Commit:
        """Set limits anew from the readings that come now; gives what is to be kept.

        Args:
            asset: one; None for all.
        """
        assets = self.pipeline.recommission(asset)
        text = "commissioning begins anew" if assets else "there is nothing to commission anew"
        what = (text, self.name, asset or "all", len(assets))
        log.log(logging.INFO if assets else logging.WARNING, "%s stream=%s asset=%s assets=%d", *what)
        return Commit(records=[(self.name, *record) for record in self.pipeline.records_of(assets)])

    def mute(self, asset: str | None, until_s: float) -> Commit:
        """Tell nothing of what happens until a time; gives the event that says so, and what is to be kept.

        Args:
            asset: one; None for the whole stream.
            until_s: epoch seconds; a time that has come ends it.
        """
        if asset is not None and not can_be_asset(asset):
            log.warning("not muted, no asset can be called so stream=%s asset=%r", self.name, printable(asset))
            return Commit()
        is_known = asset is None or asset in self.pipeline.assets()
        self.suppression.mute(asset, until_s, time.time(), is_known=is_known)
        commit = Commit()
        self._take_told(commit, delayed=False)
        return commit

    def records(self) -> list[tuple[str, bytes]]:
        """(key, record) pairs of all that is known, to begin a journal with."""
        metadata = self.decoder.metadata
        return [*self.pipeline.records(), *self.suppression.records(), *(metadata.records() if metadata else ())]

    def note_gone(self, topics: Iterable[str]) -> None:
        """Take the assets of these topics for silent at the next `listen`: they have said so themselves."""
        routes = map(self.filters.route_of, topics)
        self.pipeline.silence.gone.update(route.asset for route in routes if route is not None)

    def listen(self, now_mono_s: float, now_s: float, *, is_listening: bool, delayed: bool) -> Commit:
        """Find out who has fallen silent and who was heard again, and what is no longer to be kept back.

        Args:
            now_mono_s: monotonic.
            now_s: epoch seconds.
            is_listening: readings could come since the last call: the connection was up all the time.
            delayed: there is no connection to the broker of the alerts.

        Returns:
            The events and records; empty where nothing has changed.
        """
        before_mono_s = now_mono_s if self._listened_mono_s is None else self._listened_mono_s
        self._listened_mono_s = now_mono_s
        # An agent that was stopped or held up for long has not listened all that time.
        listened_s = min(now_mono_s - before_mono_s, self.most_listened_s) if is_listening else 0.0
        commit = Commit()
        self.suppression.look(now_mono_s, now_s, self.pipeline.roster.newest)
        outcome = self.pipeline.listen(listened_s, now_s, self.suppression.is_muted)
        self.conclude(0, outcome, commit, delayed=delayed)
        return commit

    def forget_idle(self) -> list[str]:
        """Forget assets that were silent for longer than the settings allow, and give their names.

        How long an asset was silent is counted from the last `listen` that found it heard; for one of an earlier run,
        from the start.
        """
        idle_s = self.loaded.section.idle_s
        if not idle_s:
            return []
        return [asset for asset in self.pipeline.heard.silent_for(idle_s) if self.pipeline.forget(asset)]

    def deeds(self) -> Deeds:
        """What its model did since the agent started, as an update is judged by."""
        manifest, counters = self.loaded.bundle.manifest, self.counters
        needed = readings_needed(manifest.window * manifest.stride, len(self.pipeline.assets()))
        return Deeds(
            is_blind=not counters.scored and counters.received > needed,
            at_limit=counters.at_limit,
            scored=self.counters.scored,
            not_finite=self.counters.not_finite,
            raised=self.counters.raised,
            batch_us=self.engine.record.median_us(),
            timed=self.engine.record.kept,
            drifts=self.pipeline.drift.has_alert,
        )

    def alerting(self) -> set[str]:
        """The assets that have an alert of their scores."""
        standings = self.pipeline.standings
        return {asset for asset in self.pipeline.assets() if standings.state(asset) is AssetState.ALARM}

    def shadow_with(self, shadow: Shadowing | None, recent: RecentScores | None) -> None:
        """Let a shadow have the readings, and keep the last scores beside it; None takes it away."""
        self.shadow = shadow
        self.pipeline.watchers[:] = [each for each in self.pipeline.watchers if not isinstance(each, RecentScores)]
        self.pipeline.watchers += [] if recent is None else [recent]

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        manifest = self.loaded.bundle.manifest
        return {
            **self.counters.describe(),
            "ignored": {printable(name): count for name, count in self.decoder.ignored.items()},
            "unreadable": self.decoder.unreadable.describe(),
            **self.pipeline.describe(),
            "out_of_range": self.ranges.describe(),
            **self.suppression.describe(),
            **({} if (metadata := self.decoder.metadata) is None else {metadata.name: metadata.describe()}),
            **({} if self.polled is None else {"devices": self.polled.describe()}),
            "model": {"name": manifest.name, "version": manifest.version, "sha256": manifest.model.sha256},
            "provider": self.engine.provider.name,
            "provider_reason": self.engine.choice.reason,
            "engine": self.engine.describe(),
        }
