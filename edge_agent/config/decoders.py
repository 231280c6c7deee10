"""The decoder of a configured stream."""

from __future__ import annotations

from edge_agent.bundle import Manifest
from edge_agent.config.settings import StreamSection
from edge_agent.errors import ConfigError
from edge_agent.sources.decode import Decoder

__all__ = ["make_decoder"]


def make_decoder(section: StreamSection, manifest: Manifest) -> Decoder:
    """Make the decoder of a stream's messages.

    Args:
        section: the stream's settings.
        manifest: of its bundle.

    Raises:
        ConfigError: the stream's `[stream.payload]` does not fit the bundle's channels or their units.
    """
    try:
        return Decoder(
            [channel.name for channel in manifest.channels],
            payload_format=section.format,
            one_channel=section.filters.names_channel,
            payload=section.payload,
            units=[channel.unit or None for channel in manifest.channels],
            topics=section.topics,
        )
    except ValueError as exc:
        raise ConfigError(f"[[stream]] {section.name!r} [payload] {exc}") from exc
