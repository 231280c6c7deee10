"""The time that a build says it was made at, which whoever wants the same bytes twice can set."""

from __future__ import annotations

import os

from edge_agent.errors import UsageError

__all__ = ["built_at"]

_NAME = "SOURCE_DATE_EPOCH"


def built_at() -> int | None:
    """Seconds since 1970 that SOURCE_DATE_EPOCH gives; None where it is not set.

    Raises:
        UsageError: it is no such number.
    """
    given = os.environ.get(_NAME, "")
    if not given:
        return None
    # No other digits than these, no sign, no more than Python reads, and no year beyond 9999.
    if not (given.isascii() and given.isdigit() and len(given) <= 12 and int(given) < 253_402_300_800):
        raise UsageError(f"{_NAME}={given!r}: expected seconds since 1970, such as 1763700000")
    return int(given)
