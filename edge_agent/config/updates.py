"""`[updates]` of the configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.setting_types import Megabytes, Seconds, Text

__all__ = ["UpdateSettings"]

Command = Annotated[tuple[Text, ...], Meta(description="a list: a program's path, and its arguments")]


class UpdateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[updates]`: what may come over the broker, where `[trust]` names the keys of those who may send it."""

    over_broker: bool = True
    """Whether signed wishes are obeyed; without `[trust] keys` none are."""
    max_mb: Megabytes = 500.0
    """Largest bundle that is fetched, in units of 1,000,000 bytes."""
    health_command: Command = ()
    """A program that says by its exit code, every minute while a new bundle is on probation, whether all is well: any
    code but 0 rolls the bundle back."""
    health_limit_s: Seconds = 30.0
    """For it to end; later it counts as failed."""
