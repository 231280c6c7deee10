"""All that one stream remembers of its assets, and the records in the journal that keep it over a restart."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edge_agent.stream.alarm_state import AlarmStates, for_another_model
from edge_agent.stream.commission import Commission
from edge_agent.stream.drift_watch import DriftWatch
from edge_agent.stream.intake import Intake
from edge_agent.stream.model_state import ModelStates
from edge_agent.stream.records import (
    LEFT_RECORD,
    SCORES,
    SILENCES,
    STREAM_RECORD,
    STUCK,
    AssetRecord,
    LeftRecord,
    ScoresRecord,
    decode_record,
    encode_record,
    in_restore_order,
)
from edge_agent.stream.silence import Silence
from edge_agent.stream.stuck import Stuck

__all__ = ["Memory"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The parts of a stream that remember something of an asset."""

    stream: str
    """The stream's name, for the log."""
    scorer: str
    """`Manifest.scorer` of the bundle; of a record of another scorer only alerts and rows are restored."""
    rows: str
    """`Manifest.rows` of the bundle."""
    intake: Intake
    commission: Commission | None
    """None where all assets have the bundle's limits."""
    drift: DriftWatch
    silence: Silence
    stuck: Stuck
    model_states: ModelStates | None = None
    """None of a model without state."""
    states: AlarmStates = field(default_factory=AlarmStates)
    """Of the alarm."""

    def record(self, asset: str) -> bytes:
        """The record of one asset."""
        return encode_record(
            AssetRecord(
                scorer=self.scorer,
                rows=self.rows,
                alarm=self.states.get(asset),
                window=self.intake.windows.dump(asset),
                join=self.intake.dump_open(asset),
                interval=self.intake.dump_interval(asset),
                commission=None if self.commission is None else self.commission.ready(asset),
                state=self._dump_state(asset),
            )
        )

    def _dump_state(self, asset: str) -> bytes:
        """Empty where the next reading begins anew, which nothing would say after a crash."""
        if self.model_states is None or self.intake.windows.begins_anew(asset):
            return b""
        return self.model_states.dump(asset)

    def scores_records(self, assets: Iterable[str]) -> list[tuple[str, bytes]]:
        """(key, record) pairs of the scores that some assets are commissioned from; empty without commissioning."""
        if self.commission is None:
            return []
        dump = self.commission.dump_scores
        return [
            (SCORES.of(name), encode_record(ScoresRecord(scorer=self.scorer, scores=dump(name)))) for name in assets
        ]

    def left_record(self) -> list[tuple[str, bytes]]:
        """The (key, record) pair of the last rows, for a planned stop; empty if the journal keeps all rows."""
        left = self.intake.windows.leave()
        record = LeftRecord(scorer=self.scorer, rows=self.rows, windows=left)
        return [(LEFT_RECORD, encode_record(record))] if left else []

    def forget_readings(self, asset: str) -> None:
        """Delete the window, the open reading and the model's state of one asset, so that scores begin anew."""
        self.intake.forget(asset)
        if self.model_states is not None:
            self.model_states.forget(asset)

    def drop(self, asset: str) -> None:
        """Delete the alarm, window, open reading, model's state and commissioning of one asset."""
        self.states.put(asset, None)
        self.forget_readings(asset)
        self.stuck.drop(asset)
        if self.commission is not None:
            self.commission.restart(asset)

    def restore(self, records: Iterable[tuple[str, bytes]]) -> Iterator[str]:
        """Put back (key, record) pairs of an earlier run; one that cannot be read is logged and left out.

        Returns:
            The assets of the records, some of them more than once. Those of unreadable records are among them: the
            roster forgets such an asset some day, and deletes the record.
        """
        for key, record in in_restore_order(records):
            try:
                yield from self._restore(key, record)
            # The record is damaged, or of another layout; for the latter, struct raises an error of its own.
            except (ValueError, struct.error) as exc:
                what = (self.stream, key, exc)
                log.warning("record cannot be read, asset begins anew stream=%s asset=%r error=%s", *what)
            has_own_record = SILENCES.name_in(key) is None and STUCK.name_in(key) is None
            if key not in (STREAM_RECORD, LEFT_RECORD) and has_own_record:
                yield SCORES.name_in(key) or key

    def _restore(self, key: str, record: bytes) -> Iterator[str]:
        scored = SCORES.name_in(key)
        if key == STREAM_RECORD:
            self.drift.restore(record)
        elif key == LEFT_RECORD:
            left = decode_record(record, LeftRecord)
            known = {*self.intake.windows.assets()} if self._knows_rows(left) else {*left.windows}
            for name in left.windows.keys() - known:
                self.intake.windows.restore(name, left.windows[name], kept=False)
                yield name
        elif SILENCES.name_in(key) is not None:
            yield from self.silence.restore(key, record)
        elif STUCK.name_in(key) is not None:
            yield self.stuck.restore(key, record)
        elif scored is not None:
            scores = decode_record(record, ScoresRecord)
            if self.commission is not None and scores.scorer == self.scorer:
                self.commission.restore_scores(scored, scores.scores)
        else:
            self._restore_asset(key, decode_record(record, AssetRecord))

    def _knows_rows(self, kept: AssetRecord | LeftRecord) -> bool:
        return kept.scorer == self.scorer or kept.rows == self.rows

    def _restore_asset(self, asset: str, kept: AssetRecord) -> None:
        is_ours = kept.scorer == self.scorer
        if kept.alarm is not None:
            # An alert outlives a change of model: it was raised, so it has to be cleared.
            self.states.put(asset, kept.alarm if is_ours else for_another_model(kept.alarm))
        if self._knows_rows(kept):
            # An asset must not go unwatched for a whole window because its model is another one now.
            self.intake.restore(asset, rows=kept.window, opened=kept.join, interval=kept.interval)
        if not is_ours:
            return
        if self.model_states is not None:
            self.model_states.restore(asset, kept.state)
        if self.commission is not None and kept.commission is not None:
            self.commission.restore(asset, kept.commission)
