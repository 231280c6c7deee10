"""The scores that an agent would give the rows of a file, each with the row that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle
from edge_agent.child_process import never_stop
from edge_agent.engine.choice.choose import provider_memory
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.engine.fallback import FallbackEngine
from edge_agent.engine.proven import open_proven
from edge_agent.engine.providers import SAFEST
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import DataError, EdgeError
from edge_agent.messages.scores import Engine
from edge_agent.offline import batch_rows, score_windows
from edge_agent.stream.pipeline import Pipeline
from edgetool.data import DataFiles, DataSource, SensorData, as_files

__all__ = ["Rescored", "files_for", "open_engine", "rescore"]

Ints = NDArray[np.int64]


def files_for(data: DataSource, bundles: Sequence[Bundle]) -> DataFiles:
    """Data files of which the channels of bundles are read, if nobody has named others.

    Raises:
        DataError: a pattern finds nothing.
        UsageError: no file is named, or one twice.
    """
    files = as_files(data)
    if files.columns.channels:
        return files
    names = dict.fromkeys(channel.name for bundle in bundles for channel in bundle.manifest.channels)
    return replace(files, columns=replace(files.columns, channels=tuple(names), channels_from="the bundle"))


@dataclass(frozen=True, slots=True)
class Rescored:
    """What a bundle makes of a file."""

    rows: Ints
    """Shape (scores,): the row that completes each window, counted from 0."""
    scores: NDArray[np.float32]
    """Shape (scores,), higher is more anomalous."""
    engine: Engine
    """What has scored, for single windows more."""


def open_engine(bundle: Bundle) -> Engine:
    """The bundle's model on the CPU, proven by its golden scores; nothing is timed, since there is nothing to choose.

    Raises:
        BundleError: nothing here can load the model.
        ProviderError: the CPU does not give the golden scores.
    """
    with suppress(EdgeError):
        return open_proven(bundle)
    # Where that fails, this says why.
    wanted = EngineSettings(provider=SAFEST)
    choice = choose_to_start(bundle, wanted, provider_memory(bundle, wanted, None), mix=None, look=never_stop)
    return FallbackEngine(bundle, choice)


def rescore(bundle: Bundle, data: SensorData, engine: Engine) -> Rescored:
    """Score a file with the agent's own windows.

    Args:
        bundle: what scores.
        data: must have the channels of the bundle, in any order.
        engine: from `open_engine`.

    Raises:
        DataError: the data lack a channel, or complete no window.
        EngineError: the runtime failed.
    """
    manifest = msgspec.structs.replace(bundle.manifest, interval_s=None)
    channels = tuple(channel.name for channel in manifest.channels)
    pipeline = Pipeline(agent="offline", stream=manifest.name, manifest=manifest, engine=engine, provider=SAFEST)
    # Without times each window comes with the number of its last row. The default settings ask for no duration, so the
    # windows are the same.
    numbered = replace(data.select(channels), times=None, labels=None)
    rows: list[Ints] = []
    scores: list[NDArray[np.float32]] = []
    for windows, found in score_windows(
        pipeline, engine, numbered.batches(batch_rows(manifest.window * len(channels)))
    ):
        rows.append(_as_array(windows.times))
        scores.append(found.score)
    if not any(np.isfinite(batch).any() for batch in scores):
        raise DataError(f"{data.path}: completes no window of {manifest.window} rows that {bundle.path} could score")
    return Rescored(np.concatenate(rows), np.concatenate(scores), engine)


def _as_array(numbers: Sequence[float]) -> Ints:
    """Numbers of rows, which ascend; looking at each takes longer than scoring it."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1:
        return np.arange(first, last + 1)
    return np.array(numbers, dtype=np.int64)
