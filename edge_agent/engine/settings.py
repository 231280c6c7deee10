"""`[engine]` of the configuration."""

from __future__ import annotations

import msgspec

from edge_agent.setting_types import FilePath, Providers, Sha256, Text, Threads

__all__ = ["AllowedLibrary", "EngineSettings"]


class AllowedLibrary(msgspec.Struct, frozen=True, kw_only=True):
    """`[[engine.custom_ops]]`: a library with operators that a bundle may have loaded."""

    path: FilePath
    """Where it lies; nobody but the file's owner may be able to write to it."""
    sha256: Sha256
    """What it has to be, and what the bundle has to name."""


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
    custom_ops: tuple[AllowedLibrary, ...] = ()
    """Libraries with operators of their own that bundles may have loaded; none is loaded that no bundle names."""
