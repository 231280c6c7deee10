"""What is known of a stream's updates, and its copy on the disk, which is tried again where the disk takes nothing."""

from __future__ import annotations

import logging
import time

import msgspec

from edge_agent.errors import TrustError
from edge_agent.messages.text import iso_time
from edge_agent.messages.update import State
from edge_agent.trust import Keys, read_wish
from edge_agent.update.store import Answer, Standing, Store
from edge_agent.update.wishes import Wish, read_wish_text

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

_AGAIN_S = 10.0
_REASON_CHARACTERS = 2_000
"""Most of a reason: of a wish with thousands of mistakes, all of them would be a message that no broker takes, and a
document that `Store.load` does not."""


class Ledger:
    """Of one stream.

    Args:
        store: the stream's.
        stream: its name, for the log.
    """

    def __init__(self, store: Store, stream: str) -> None:
        self._store = store
        self._stream = stream
        self._again_mono_s = 0.0
        self.standing = store.load()
        self.is_unsaved = store.is_unsaved
        """The disk has not taken the last change."""
        self._saved = None if self.is_unsaved else msgspec.structs.replace(self.standing)
        """As the disk has it, but for the counts of a probation; None if nobody knows."""
        self.changes = 1
        """Grows with what there is to tell."""

    def wish(self, keys: Keys) -> Wish | None:
        """The wish that was obeyed last; None where none was, or it does not count any more.

        Args:
            keys: that are trusted now. A key may have been taken off the list since the wish came.
        """
        try:
            return read_wish_text(read_wish(self.standing.wish.encode(), keys)) if self.standing.wish else None
        except (TrustError, ValueError) as exc:
            log.warning("wish does not count any more stream=%s error=%s", self._stream, exc)
            return None

    def note(self, state: State, reason: str = "", *, save: bool = True) -> None:
        """Where the update stands now; each new state is written."""
        standing, reason = self.standing, _short(reason)
        if (state, reason) == (standing.state, standing.reason):
            return
        is_step = state is not standing.state
        standing.note(state, iso_time(time.time()), reason)
        bundle = standing.wanted or "-"
        log.info("update %s stream=%s bundle=%s reason=%r", state.value, self._stream, bundle, reason)
        self.changes += 1
        if save and is_step:
            self.save()

    def answer(self, wish: Wish, state: str, reason: str) -> None:
        """Note what became of a wish that needs no steps."""
        standing, reason = self.standing, _short(reason)
        standing.sequences = {**standing.sequences, wish.kind: wish.sequence}
        answer = Answer(sequence=wish.sequence, state=state, reason=reason, time=iso_time(time.time()))
        standing.answers = {**standing.answers, wish.kind: answer}
        log.info("wish %s stream=%s kind=%s reason=%r", state, self._stream, wish.kind.value, reason)
        self.save()

    def save(self) -> bool:
        """Write all; gives whether the disk has it."""
        self.changes += 1
        try:
            self._store.save(self.standing)
        except OSError as exc:
            if not self.is_unsaved:
                log.warning("update not noted on the disk stream=%s error=%s", self._stream, exc)
            self.is_unsaved = True
            self._again_mono_s = time.monotonic() + _AGAIN_S
            return False
        self.is_unsaved = False
        self._saved = msgspec.structs.replace(self.standing)
        return True

    @property
    def to_tell(self) -> Standing:
        """What may be told: no end and no answer that the disk has not, because the run after a kill knows of none."""
        standing, saved = self.standing, self._saved
        if saved is None or not self.is_unsaved:
            return standing
        if standing.state.is_pending or standing.state.is_on_trial:
            return msgspec.structs.replace(standing, answers=saved.answers)
        return msgspec.structs.replace(
            saved, reason=f"{standing.state.value.replace('_', ' ')}, once the disk takes it"
        )

    def tend(self, now_mono_s: float) -> None:
        """Try again what the disk did not take; to be called now and then."""
        if self.is_unsaved and now_mono_s >= self._again_mono_s:
            self.save()


def _short(reason: str) -> str:
    return reason if len(reason) <= _REASON_CHARACTERS else f"{reason[:_REASON_CHARACTERS]}…"
