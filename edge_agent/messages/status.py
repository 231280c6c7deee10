"""The messages in which an agent reports on itself."""

from __future__ import annotations

import msgspec

__all__ = ["RejectedSample", "Status"]


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of the connection, retained on `edge/{agent}/status`."""

    state: str
    """`online` or `offline`."""
    reason: str
    """Reason of the state: `connected`, `connection lost` (the last will), `reloading` (a new start follows), or
    `stopped`."""
    session: str
    """Id of one connection, which distinguishes a late will of an old connection from the status of a new one."""
    time: str
    """ISO 8601 in UTC."""
    version: str
    """Version of the agent."""
    streams: list[str] = []


class RejectedSample(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of a message that could not be used, on `edge/{agent}/rejected`."""

    stream: str
    topic: str
    reason: str
    """Value of a `RejectReason`."""
    detail: str
    """The problem, as text for a person."""
    sample: str
    """The first characters of the payload; a character that is not printable is shown as `?`."""
    count: int
    """Number of messages of this stream that were rejected for this reason since the agent started."""
    time: str
    """ISO 8601 in UTC."""
