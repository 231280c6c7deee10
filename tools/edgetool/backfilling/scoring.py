"""Scores one asset, wherever that is asked: in this process, in a worker of Dask, in another engine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.data_files import SensorData
from edge_agent.data_files.cells import checked_times
from edge_agent.engine.providers import SAFEST
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import BundleError, DataError, UsageError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine
from edge_agent.messages.text import encode
from edge_agent.offline import Scored, score_blocks
from edge_agent.stream.settings import StreamSettings
from edgetool.detector.allowed import open_allowed
from edgetool.detector.rescored import open_engine
from edgetool.paths import StrPath, as_paths

__all__ = ["AssetScores", "Scoring", "score_asset", "score_rows", "scoring_of"]

_OPEN_AT_ONCE = 4


class Scoring(msgspec.Struct, frozen=True, kw_only=True):
    """What scores, and how: a few texts and numbers, so that it goes to another process or machine."""

    bundle: str
    """Path of the bundle, there too."""
    model: str
    """Name and version of the bundle."""
    identity: str
    """Hash of its manifest, and so of all in it."""
    channels: tuple[str, ...]
    agent: str
    stream: str
    settings: StreamSettings | None = None
    """Of a stream; None for the defaults."""
    engine: EngineSettings | None = None
    """`[engine]` of a configuration, of which the allowed libraries count; None without one."""
    custom_ops: tuple[str, ...] = ()
    """Libraries that the user allows."""


@dataclass(frozen=True, slots=True)
class AssetScores:
    """What one asset's rows were scored, in memory."""

    asset: str
    times: list[float]
    """Of each window's last reading, epoch seconds; the row's number without times."""
    scores: FloatArray
    """Shape (windows,), float32; higher is more anomalous."""
    events: list[AlertEvent]
    """As a device would have published them, in order."""

    def event_lines(self) -> list[str]:
        """Each event as the JSON that would have been published."""
        return [encode(event).decode() for event in self.events]


def scoring_of(
    bundle: StrPath | None = None,
    *,
    config: StrPath | None = None,
    stream: str | None = None,
    custom_ops: StrPath | Sequence[StrPath] = (),
) -> Scoring:
    """What scores with a bundle, and with the settings of a stream where a configuration is given.

    Args:
        bundle: what scores; None is the stream's own.
        config: an agent's configuration; None for the default settings.
        stream: a stream in it; None is right where there is one only.
        custom_ops: libraries that the bundle names, which may be loaded.

    Raises:
        BundleError: the bundle cannot be read.
        ConfigError: the configuration cannot be read, has problems, or does not allow a library.
        UsageError: there is no bundle, the configuration has several streams and none is named, or a library is
            missing, or not needed.
    """
    agent, name, settings, engine = "offline", None, None, None
    if config is not None:
        from edge_agent.config.offline import load_offline, stream_of

        loaded = load_offline(Path(config))
        section = stream_of(loaded, stream, "backfill")
        agent, name, settings, engine = loaded.agent.id, section.name, section.settings, loaded.engine
        bundle = bundle or section.bundle
    elif stream is not None:
        raise UsageError("backfill: --stream names a stream of a configuration, so it needs --config")
    if bundle is None:
        raise UsageError("backfill: expected at least one bundle, or --config for the one of a stream")
    libraries = as_paths(custom_ops)
    manifest = open_allowed([Path(bundle)], libraries, engine)[0].manifest
    return Scoring(
        bundle=str(Path(bundle).resolve()),
        model=f"{manifest.name}-{manifest.version}",
        identity=_identity(manifest),
        channels=tuple(channel.name for channel in manifest.channels),
        agent=agent,
        stream=name or manifest.name,
        settings=settings,
        engine=engine,
        custom_ops=tuple(str(path.resolve()) for path in libraries),
    )


def score_rows(blocks: Iterable[SensorData], asset: str, scoring: Scoring) -> Iterator[Scored]:
    """Score the rows of one asset as its device would have: windows, alarm and commissioning begin anew with it.

    It asks nothing of where it runs, and reads nothing but the bundle, which stays open for the next asset.

    Args:
        blocks: rows of this asset alone that follow each other; assets that they name are not looked at.
        asset: its name.
        scoring: what scores, and how.

    Yields:
        The batches in order. How rows are cut into blocks changes nothing.

    Raises:
        BundleError: the bundle is not there, or is another one by now.
        DataError: the rows lack a channel, or times that the settings need.
        EngineError: the runtime failed.
    """
    bundle, engine = _opened(scoring)
    named = (replace(block, assets=(asset,) * len(block), labels=None) for block in blocks)
    return score_blocks(
        named,
        bundle,
        engine,
        agent=scoring.agent,
        stream=scoring.stream,
        provider=SAFEST,
        settings=scoring.settings,
    )


def score_asset(scoring: Scoring, asset: str, columns: Mapping[str, Any], *, time: str = "time") -> AssetScores:
    """Score the rows of one asset that are in memory, for any engine that groups rows by asset.

    Args:
        scoring: from `scoring_of`; a text of it may go anywhere.
        asset: its name.
        columns: by name, arrays of shape (rows,), such as a data frame of pandas or polars: the bundle's channels, and
            times where there are any. Rows may be in any order, since engines keep none: they are scored in that of
            their times.
        time: name of the column of times: epoch seconds or finer, or datetime64.

    Raises:
        BundleError: the bundle is not there, or is another one by now.
        DataError: a channel is missing, a value is no number, or a time is none.
        EngineError: the runtime failed.
    """
    here = Path(f"asset {asset!r}")
    missing = [name for name in scoring.channels if name not in columns]
    if missing:
        raise DataError(f"{here}: has no column {missing[0]!r}, which the bundle wants")
    try:
        values = np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in scoring.channels])
    except (TypeError, ValueError) as exc:
        raise DataError(f"{here}: a channel holds something else than numbers ({exc})") from exc
    times = _seconds(here, time, columns[time]) if time in columns else None
    if times is not None:
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
    rows = SensorData(here, scoring.channels, values, times, None, None)
    batches = [*score_rows([rows] if len(rows) else [], asset, scoring)]
    return AssetScores(
        asset,
        [time_s for batch in batches for time_s in batch.times],
        np.concatenate([np.empty(0, np.float32), *(batch.scores for batch in batches)]),
        [event for batch in batches if batch.has_events for event in batch.outcome.events],
    )


def _seconds(here: Path, name: str, column: Any) -> Any:
    found = np.asarray(column)
    if found.dtype.kind == "M":
        # As Parquet's are read: whole microseconds, so that a float64 of seconds is the nearest one.
        found = found.astype("datetime64[us]").astype(np.int64) / 10**6
    try:
        return checked_times(here, name, found.astype(np.float64), range(len(found)), line="row")
    except (TypeError, ValueError) as exc:
        raise DataError(f"{here}: column {name!r} holds no times ({exc})") from exc


def _identity(manifest: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()


class _Open(threading.local):
    """The bundles that a thread has open, the one used last at the end: an engine is one thread's."""

    def __init__(self) -> None:
        self.engines: dict[tuple[str, ...], tuple[Bundle, Engine]] = {}


_open = _Open()


def _opened(scoring: Scoring) -> tuple[Bundle, Engine]:
    key = (scoring.bundle, scoring.identity, *scoring.custom_ops)
    found = _open.engines.pop(key, None)
    if found is None:
        libraries = [Path(path) for path in scoring.custom_ops]
        bundle = open_allowed([Path(scoring.bundle)], libraries, scoring.engine)[0]
        if _identity(bundle.manifest) != scoring.identity:
            raise BundleError(f"{scoring.bundle}: is not the bundle that this began with, or not the same everywhere")
        found = bundle, open_engine(bundle)
        while len(_open.engines) >= _OPEN_AT_ONCE:
            del _open.engines[next(iter(_open.engines))]
    _open.engines[key] = found
    return found
