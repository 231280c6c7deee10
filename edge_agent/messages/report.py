"""What an agent tells of itself."""

from __future__ import annotations

import msgspec

__all__ = ["RejectedSample", "Status"]


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Retained on `edge/{agent}/status`."""

    state: str
    """`online` or `offline`."""
    reason: str
    """Why: `connected`, `connection lost` (the last will) or `stopped`."""
    session: str
    """Names one connection, so that a will that arrives late is told from a new one."""
    time: str
    version: str
    streams: list[str] = []


class RejectedSample(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of what could not be read, on `edge/{agent}/rejected`."""

    stream: str
    topic: str
    reason: str
    detail: str
    sample: str
    """The first characters of the payload; what is not printable is shown as `?`."""
    count: int
    """Messages of this stream rejected for this reason since the agent started."""
    time: str
