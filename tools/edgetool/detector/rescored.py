"""The scores that an agent would give the rows of a file, each with the row that it is of."""

from __future__ import annotations

import math
from collections import Counter
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
from edge_agent.offline import batch_rows, check_times, score_windows
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window_settings import WindowSettings
from edgetool.data import DEFAULT_ASSET, DataFiles, DataSource, SensorData, as_files
from edgetool.quality.rows import median_of

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
    begun: Ints
    """Those of the rows whose window is the first since it began anew."""
    window: int
    """Rows that a score looks at; the usual number, where readings are made of several rows."""
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


def rescore(bundle: Bundle, data: SensorData, engine: Engine, settings: StreamSettings | None = None) -> Rescored:
    """Score a file with the agent's own windows.

    Args:
        bundle: what scores.
        data: must have the channels of the bundle, in any order.
        engine: from `open_engine`.
        settings: of a stream, of which those of its windows count; None for the defaults.

    Raises:
        DataError: the data lack a channel, or times that the settings need, or complete no window.
        EngineError: the runtime failed.
    """
    settings = StreamSettings(window=WindowSettings() if settings is None else settings.window)
    manifest = msgspec.structs.replace(bundle.manifest, interval_s=None)
    channels = tuple(channel.name for channel in manifest.channels)
    check_times(data, settings)
    selected = replace(data.select(channels), labels=None)
    # Without times each window comes with the number of its last row. Where no setting asks for a duration, the windows
    # are the same.
    is_numbered = settings.window.is_plain or selected.times is None
    if is_numbered:
        selected = replace(selected, times=None)
    pipeline = Pipeline(
        agent="offline", stream=manifest.name, manifest=manifest, engine=engine, provider=SAFEST, settings=settings
    )
    finder = None if is_numbered else _RowFinder(selected, is_last=settings.window.every_s > 0)
    rows: list[Ints] = []
    scores: list[NDArray[np.float32]] = []
    begun: list[Ints] = []
    for windows, found in score_windows(
        pipeline, engine, selected.batches(batch_rows(manifest.window * len(channels)))
    ):
        rows.append(_as_array(windows.times) if finder is None else finder.find(windows.assets, windows.times))
        scores.append(found.score)
        begun.append(rows[-1][np.array(sorted(windows.begun), dtype=np.int64)])
    if not any(np.isfinite(batch).any() for batch in scores):
        raise DataError(f"{data.path}: completes no window of {manifest.window} rows that {bundle.path} could score")
    made_of = 1 if finder is None or not settings.window.every_s else math.ceil(finder.usual_step() / manifest.stride)
    return Rescored(
        rows=np.concatenate(rows),
        scores=np.concatenate(scores),
        begun=np.concatenate(begun),
        window=manifest.window * made_of,
        engine=engine,
    )


class _RowFinder:
    """Finds the rows of windows by asset and time, where durations count. They come in the order of the rows.

    Of rows with one time, some of which the settings leave out, the first are taken. A row without any value is none.

    Args:
        data: all rows, with times.
        is_last: whether a window is of the last row of its time, as where readings are made of several rows.
    """

    def __init__(self, data: SensorData, *, is_last: bool) -> None:
        assert data.times is not None
        self._is_last = is_last
        self._known: dict[str, tuple[list[int], list[float]]] = {}
        self._next: Counter[str] = Counter()
        self._steps: list[int] = []
        heard = np.flatnonzero(~np.isnan(data.values).all(axis=1))
        assets = [DEFAULT_ASSET] * len(data) if data.assets is None else data.assets
        for row, time_s in zip(heard.tolist(), data.times[heard].tolist(), strict=True):
            rows, times = self._known.setdefault(assets[row], ([], []))
            rows.append(row)
            times.append(time_s)

    def find(self, assets: Sequence[str], times: Sequence[float]) -> Ints:
        """The rows of windows that follow those asked for before."""
        found = np.empty(len(times), dtype=np.int64)
        for number, (asset, time_s) in enumerate(zip(assets, times, strict=True)):
            rows, known = self._known[asset]
            begin = self._next[asset]
            place = known.index(time_s, begin)
            while self._is_last and place + 1 < len(known) and known[place + 1] == time_s:
                place += 1
            found[number] = rows[place]
            self._steps.append(place + 1 - begin)
            self._next[asset] = place + 1
        return found

    def usual_step(self) -> float:
        """So many rows of an asset usually lie from one window to the next, the median."""
        return median_of(np.array(self._steps)) or 1.0


def _as_array(numbers: Sequence[float]) -> Ints:
    """Numbers of rows, which ascend; looking at each takes longer than scoring it."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1:
        return np.arange(first, last + 1)
    return np.array(numbers, dtype=np.int64)
