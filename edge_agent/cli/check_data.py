"""`edge-agent check --data`: do readings of a file look like those that the bundle knows?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import Bundle, Manifest
from edge_agent.config.settings import Config, StreamSection
from edge_agent.data_files import SensorData, read_sensor_data
from edge_agent.errors import DataError, UsageError
from edge_agent.messages.scores import Engine
from edge_agent.offline import score_data
from edge_agent.stream.intervals import Intervals, intervals_in_words
from edge_agent.stream.ranges import ChannelFit, fit_of
from edge_agent.terminal import say

__all__ = ["DataFit", "check_data", "place_of"]

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class DataFit:
    """How the readings of a file lie beside what a bundle knows."""

    path: Path
    rows: int
    windows: int
    """Windows that were scored."""
    alarming: float | None
    """Share of them that reach the bundle's alarm limit; None without a window."""
    channels: list[ChannelFit]
    intervals: dict[str, Any] | None
    """How far apart the rows are beside those of the model, as health has it; None where nothing is expected, or the
    file has no times."""

    def describe(self) -> dict[str, Any]:
        """As a part of a JSON document."""
        return {
            "file": str(self.path),
            "rows": self.rows,
            "windows": self.windows,
            "alarming": self.alarming,
            "channels": [msgspec.to_builtins(channel) for channel in self.channels],
            "intervals": self.intervals,
        }

    def show(self) -> None:
        """For a person."""
        share = "no window is complete" if self.alarming is None else f"{self.alarming:.2%} reach the alarm limit"
        say(f"  {self.path}: {self.rows} rows, {self.windows} windows: {share}")
        for channel in self.channels:
            say(f"    {channel.name}: {channel.in_words()}")
        if self.intervals is not None:
            say(f"    interval: {intervals_in_words(self.intervals)}")

    def refuse(self) -> None:
        """Raise where the readings are not those that the model was made for.

        Raises:
            DataError: most values of a channel are far outside.
        """
        wrong = [channel for channel in self.channels if channel.is_another_scale]
        if wrong:
            parts = ", ".join(f"{channel.name} ({channel.in_words()})" for channel in wrong)
            step = "send the units that the model was calibrated on, or pack it with readings as the device gets them"
            raise DataError(f"{self.path}: these are not the readings that the model knows: {parts}; {step}")


def place_of(config: Config, name: str | None) -> int:
    """Which stream of a configuration the data are for.

    Args:
        config: checked settings.
        name: of the stream; None is right where there is one only.

    Raises:
        UsageError: there is none of this name, or several and no name.
    """
    names = [stream.name for stream in config.streams]
    if name is None and len(names) == 1:
        return 0
    if name not in names:
        raise UsageError(f"check: --data needs --stream, one of: {', '.join(names)}")
    return names.index(name)


def check_data(path: Path, section: StreamSection, bundle: Bundle, engine: Engine, *, agent: str) -> DataFit:
    """Score a file of readings as the stream would, and compare its values with the bundle's.

    Args:
        path: `.csv`, `.csv.gz` or `.npz`.
        section: the stream's settings.
        bundle: of the stream.
        engine: scores its windows.
        agent: the agent's id.

    Raises:
        DataError: the file cannot be read, or lacks a channel.
        EngineError: the runtime failed.
    """
    manifest, settings = bundle.manifest, section.settings
    data = read_sensor_data(path).select(tuple(channel.name for channel in manifest.channels))
    intervals = _intervals(data, section, manifest)
    # The pace of its rows is told already.
    bundle = replace(bundle, manifest=msgspec.structs.replace(manifest, interval_s=None))
    report = score_data(data, bundle, engine, agent=agent, stream=section.name, provider="", settings=settings)
    scores = report.scores
    alarming = float(np.mean(scores >= manifest.threshold.alarm)) if scores.size else None
    channels = fit_of(data.values, manifest.channels)
    return DataFit(path, len(data), report.scored, alarming, channels, intervals)


def _intervals(data: SensorData, section: StreamSection, manifest: Manifest) -> dict[str, Any] | None:
    """What the running agent would say of the rows' pace, in the log too; None where it knows nothing to say."""
    if data.times is None:
        return None
    watch = Intervals(section.name, manifest, is_resampled=section.window.every_s > 0)
    for readings in data.batches(_BATCH_ROWS):
        watch.add(readings)
    return watch.describe()
