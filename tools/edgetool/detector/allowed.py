"""Opens bundles with the libraries that the user, or a configuration, allows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.custom_ops import allow_configured, allow_given
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import UsageError

__all__ = ["open_allowed"]


def open_allowed(
    paths: Sequence[Path], custom_ops: Sequence[Path], configured: EngineSettings | None = None
) -> list[Bundle]:
    """Open bundles, with the libraries that they need and may have loaded.

    Args:
        paths: of the bundles.
        custom_ops: libraries that the user names; none leaves it to the configuration.
        configured: `[engine]` of a configuration, which may allow some; None without one.

    Raises:
        BundleError: one cannot be read, or names no library for this machine.
        ConfigError: the configuration does not allow a library, or has another file.
        UsageError: a library that is needed is not given, or none is needed.
    """
    opened = [open_bundle(path) for path in paths]
    if custom_ops and not any(bundle.manifest.custom_ops for bundle in opened):
        names = " and ".join(str(path) for path in paths)
        raise UsageError(f"--custom-ops {custom_ops[0]}: {names} needs no operators of a library; leave it out")
    if configured is not None and not custom_ops:
        return [allow_configured(bundle, configured) for bundle in opened]
    return [allow_given(bundle, custom_ops, guarded=False) for bundle in opened]
