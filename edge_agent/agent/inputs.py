"""The inputs of streams that have no topic: files, pipes, and devices that are asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from edge_agent.agent.stream import Stream
from edge_agent.config.inputs import open_input
from edge_agent.sources.polled import PolledInput
from edge_agent.sources.text_input import TextInput

__all__ = ["open_inputs"]


def open_inputs(streams: Sequence[Stream], stack: ExitStack) -> list[tuple[Stream, TextInput | PolledInput]]:
    """Open the inputs, and begin to ask devices.

    Args:
        streams: all.
        stack: closes them.

    Returns:
        The streams that have one, with it.

    Raises:
        ConfigError: what a device is asked for are not the bundle's channels.
        DataError: a file cannot be opened.
        MissingExtraError: what speaks to a device is not installed.
    """
    opened: list[tuple[Stream, TextInput | PolledInput]] = []
    for stream in streams:
        if stream.loaded.section.input is None:
            continue
        source = open_input(stream.loaded.section, stream.loaded.bundle.manifest)
        stack.callback(source.close)
        if isinstance(source, PolledInput):
            source.start()
            stream.polled = source
        opened.append((stream, source))
    return opened
