"""A planned stop: what was begun is finished, and what nobody would give again is taken."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edge_agent.agent.batch import Batches
from edge_agent.errors import JournalError
from edge_agent.sources.source import Source

__all__ = ["take_last"]

log = logging.getLogger(__name__)


def take_last(sources: Sequence[Source], batches: Batches) -> None:
    """Commit the batch that is held, and take what was read of a file or a pipe, or shared with us, to the end."""
    try:
        batches.finish()
    except JournalError as exc:
        log.warning("last batch stays with the broker error=%s", exc)
    for source in sources:
        while deliveries := source.leave():
            try:
                batches.finish()
                batches.process(deliveries, source.ack, may_repeat=source.may_repeat)
                batches.finish()
            except JournalError as exc:
                log.warning("last readings are lost count=%d error=%s", len(deliveries), exc)
                break
