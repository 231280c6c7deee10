"""`[engine]` of the configuration."""

from __future__ import annotations

import msgspec

from edge_agent.setting_types import Providers, Text, Threads

__all__ = ["EngineSettings"]


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[engine]`: the provider that scores, and its threads."""

    provider: Text = "auto"
    """`auto` (chosen by measurement on this device) or one provider's name, such as `cpu` or `openvino`."""
    prefer: Providers = ()
    """With `auto`: the first of these providers that gives right scores is chosen, however fast the others are."""
    require: Text | None = None
    """The one provider that may run; if it cannot, the agent ends with exit code 69 and the reason. None: any may."""
    threads: Threads = 1
    """Most threads of one inference; fewer are used if they are as fast. More than 1 rarely helps a small model."""
