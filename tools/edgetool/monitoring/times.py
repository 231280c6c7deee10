"""Times that somebody sent."""

from __future__ import annotations

import time
from contextlib import suppress

from edge_agent.messages.values import read_iso_time

__all__ = ["AHEAD_S", "is_ahead", "seconds"]

AHEAD_S = 86_400.0
"""A time that is further ahead of our clock is doubtful. Who takes local time for UTC is 14 h ahead at most."""


def seconds(text: str) -> float:
    """Epoch seconds of a time as ISO 8601; 0 for a text that is none."""
    with suppress(ValueError, OverflowError):
        return read_iso_time(text)
    return 0.0


def is_ahead(at: float) -> bool:
    """Whether a time, epoch seconds, is further ahead of our clock than a clock can be that is about right."""
    return at > time.time() + AHEAD_S
