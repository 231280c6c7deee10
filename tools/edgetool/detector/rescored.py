"""The scores that an agent would give the rows of a file, each with the row that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle
from edge_agent.child_process import never_stop
from edge_agent.engine.choice.choose import Choice, provider_memory
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.engine.fallback import FallbackEngine
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import DataError
from edge_agent.messages.scores import Engine
from edge_agent.offline import score_data
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import StreamSettings
from edgetool.data import DataFiles, DataSource, SensorData, as_files

__all__ = ["Rescored", "files_for", "open_engine", "prove", "rescore"]

_EACH_ALERT = StreamSettings(alarm=AlarmSettings(flap_raises=0))


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

    rows: NDArray[np.int64]
    """Shape (scores,): the row that completes each window, counted from 0."""
    scores: NDArray[np.float32]
    """Shape (scores,), higher is more anomalous."""
    engine: Engine
    """What has scored, for single windows more."""


def prove(bundle: Bundle) -> Choice:
    """Prove the golden scores on the CPU, in a process of its own; nothing is timed, since there is nothing to choose.

    Raises:
        BundleError: nothing here can load the model.
        ProviderError: the CPU does not give the golden scores.
    """
    wanted = EngineSettings(provider="cpu")
    return choose_to_start(bundle, wanted, provider_memory(bundle, wanted, None), mix=None, look=never_stop)


def open_engine(bundle: Bundle, choice: Choice) -> Engine:
    """The engine that was proven.

    Args:
        bundle: what scores.
        choice: from `prove`, which may run while the data are read.

    Raises:
        EngineError: the model does not load any more.
    """
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
    report = score_data(
        # Without times each score comes with its row's number. The default settings ask for no duration, so the windows
        # and the alerts are the same.
        replace(data, times=None, labels=None),
        bundle,
        engine,
        agent="offline",
        stream=bundle.manifest.name,
        provider="cpu",
        settings=_EACH_ALERT,
    )
    if not np.isfinite(report.scores).any():
        raise DataError(
            f"{data.path}: completes no window of {bundle.manifest.window} rows that {bundle.path} could score"
        )
    numbers = chain.from_iterable(numbers for _, numbers in report.scored_of)
    return Rescored(np.fromiter(numbers, dtype=np.int64, count=len(report.scores)), report.scores, engine)
