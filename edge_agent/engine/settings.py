"""`[engine]` of the configuration."""

from __future__ import annotations

import msgspec

from edge_agent.setting_types import Providers, Text, Threads

__all__ = ["EngineSettings"]


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[engine]`: what computes."""

    provider: Text = "auto"
    """`auto` (chosen by measurement on this device) or one provider's name, such as `cpu` or `openvino`."""
    prefer: Providers = ()
    """With `auto`: the first of these that gives right scores is taken, however fast the others are."""
    require: Text | None = None
    """The one provider that may run; the agent ends with exit code 69 and the reason where it cannot."""
    threads: Threads = 1
    """Most threads of one inference; fewer are taken where they are as fast. More than 1 rarely helps a small model."""
