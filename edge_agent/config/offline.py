"""A configuration where no agent runs: its settings judge a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.config.load import load_config
from edge_agent.config.settings import Config, StreamSection
from edge_agent.errors import UsageError

__all__ = ["load_offline", "stream_of"]


def load_offline(path: Path, overrides: Sequence[str] = ()) -> Config:
    """As `load_config`, but a state folder need not be there.

    Raises:
        ConfigError: the file cannot be read, or has problems.
    """
    return load_config(path, ("agent.state_dir=/nonexistent", *overrides))


def stream_of(config: Config, name: str | None, command: str) -> StreamSection:
    """The stream that a file is for.

    Args:
        config: checked settings.
        name: of the stream; None is right where there is one only.
        command: that asks, for the text of the error.

    Raises:
        UsageError: there is none of this name, or several and no name.
    """
    for stream in config.streams:
        if name in (None, stream.name) and (name or len(config.streams) == 1):
            return stream
    raise UsageError(f"{command}: --stream must be one of: {', '.join(stream.name for stream in config.streams)}")
