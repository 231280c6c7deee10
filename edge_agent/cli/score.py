"""`edge-agent score`: files of readings through the pipeline of a stream."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.cli.options import add_json, add_set
from edge_agent.config.load import load_config
from edge_agent.config.settings import Config, StreamSection
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import UsageError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.text import encode
from edge_agent.terminal import json_text, say, say_list

if TYPE_CHECKING:
    from edge_agent.data_files import Columns, DataStream, SensorData
    from edge_agent.engine.choice.choose import Choice
    from edge_agent.messages.reading import FloatArray
    from edge_agent.messages.scores import Engine, Scores
    from edge_agent.offline import Scored, Summary

__all__ = ["add_options", "run"]

_PROVIDER = "cpu"
_EXAMPLE = """example:
  edge-agent score day-1.csv day-2.csv --bundle pump-1.0.0.edge --time-column timestamp --alerts alerts.jsonl"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.epilog = _EXAMPLE
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="readings (.csv, .csv.gz, .npz, .parquet), in the order in which they came, or a pattern: 'a/*.csv'",
    )
    command.add_argument("--bundle", type=Path, help="the bundle to score with")
    command.add_argument("--config", type=Path, help="or a configuration, for a stream's bundle and settings")
    command.add_argument("--stream", help="the stream in it; the only one when not given")
    add_set(command)
    for role in ("time", "asset", "label"):
        command.add_argument(
            f"--{role}-column", metavar="NAME", help=f"the column of that meaning; default: {role}, if there is one"
        )
    command.add_argument("--scores", type=Path, metavar="OUT.csv", help="write every score with its time and asset")
    command.add_argument(
        "--alerts",
        type=Path,
        metavar="OUT.jsonl",
        help="write every event as it would be published, in place of showing it",
    )
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Score files with the code that scores a stream."""
    from edge_agent.data_files import DataFiles, open_data
    from edge_agent.offline import Summary, score_blocks

    config = None if options.config is None else _offline_config(options)
    section = None if config is None else _stream_of(config, options.stream)
    if (section is None) == (options.bundle is None):
        raise UsageError("score: give either --bundle, or --config and --stream")
    if config is None and options.set:
        raise UsageError("score: --set changes a configuration, so it needs --config")
    if options.scores is not None and options.scores == options.alerts:
        raise UsageError(f"score: --scores and --alerts are both {options.scores}")
    bundle = open_bundle(options.bundle if section is None else Path(section.bundle))
    summary = Summary()
    with open_data(DataFiles.named(options.files, _columns(options, bundle))) as data:
        _tell_ignored(data)
        blocks, choice = _begin(summary.count_rows(data.blocks()), bundle, config)
        engine, helper = _engines(bundle, choice)
        scored = score_blocks(
            blocks,
            bundle,
            engine,
            helper=helper,
            agent="offline" if config is None else config.agent.id,
            stream=bundle.manifest.name if section is None else section.name,
            provider=choice.provider,
            settings=None if section is None else section.settings,
        )
        _report(scored, summary, data, options)


def _columns(options: argparse.Namespace, bundle: Bundle) -> Columns:
    from edge_agent.data_files import Columns

    channels = tuple(channel.name for channel in bundle.manifest.channels)
    return Columns(options.time_column, options.asset_column, options.label_column, channels, "the bundle")


def _tell_ignored(data: DataStream) -> None:
    for name in data.ignored:
        say(f"WARNING  column {name!r} holds text and is no channel of the bundle: it is ignored", to=sys.stderr)


def _begin(blocks: Iterator[SensorData], bundle: Bundle, config: Config | None) -> tuple[Iterable[SensorData], Choice]:
    """Read the first rows while the provider is proven in a process of its own."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        asked = beside.submit(_choose, bundle, config)
        first = list(islice(blocks, 1))
        return chain(first, blocks), asked.result()


def _choose(bundle: Bundle, config: Config | None) -> Choice:
    from edge_agent.child_process import never_stop
    from edge_agent.engine.choice.choose import choose_provider, provider_memory
    from edge_agent.engine.choice.starting import choose_to_start

    if config is not None:
        return choose_provider(bundle, config.engine, state_dir=None)
    # The CPU provider is everywhere. It is proven, and not timed, since there is nothing to choose.
    wanted = EngineSettings(provider=_PROVIDER)
    return choose_to_start(bundle, wanted, provider_memory(bundle, wanted, None), mix=None, look=never_stop)


def _engines(bundle: Bundle, choice: Choice) -> tuple[Engine, Engine | None]:
    """The engine, and a second one for the core that is free beside it; elsewhere two would want one device."""
    from edge_agent.engine.fallback import FallbackEngine

    engine = FallbackEngine(bundle, choice)
    return engine, _Later(lambda: FallbackEngine(bundle, choice)) if engine.current.name == _PROVIDER else None


class _Later:
    """An engine that is opened when it is needed: never, where a file is read more slowly than it is scored."""

    def __init__(self, opener: Callable[[], Engine]) -> None:
        self._opener = opener
        self._engine: Engine | None = None

    def score(self, windows: FloatArray) -> Scores:
        """See `Engine.score`."""
        self._engine = self._engine or self._opener()
        return self._engine.score(windows)


def _report(scored: Iterator[Scored], summary: Summary, data: DataStream, options: argparse.Namespace) -> None:
    """Write or show what was scored, a batch at a time: a long file has more alerts than there may be memory."""
    from edge_agent.offline import AlertsFile, ScoresFile

    with ExitStack() as stack:
        scores = None if options.scores is None else stack.enter_context(ScoresFile(options.scores))
        alerts = None if options.alerts is None else stack.enter_context(AlertsFile(options.alerts))
        told = stack.enter_context(tempfile.TemporaryFile()) if options.json else None
        for batch in scored:
            summary.add(batch)
            if scores is not None:
                scores.add(batch.assets, batch.times, batch.scores)
            events = batch.outcome.events if batch.has_events else []
            if alerts is not None:
                alerts.add(events)
            if told is not None:
                told.writelines(_as_json(event) + b"\n" for event in events)
            elif alerts is None:
                for event in events:
                    say(f"{event.event:<8} {event.asset}  {event.time}  {event.describe()}")
        found = summary.describe()
        if told is None:
            say(", ".join(f"{name} {value}" for name, value in found.items()))
            return
        told.seek(0)
        say_list({**found, "ignored_columns": list(data.ignored)}, "alerts", (line.decode().rstrip() for line in told))


def _as_json(event: AlertEvent) -> bytes:
    """An event as one line of JSON in ASCII, as `json_text` gives it, in a tenth of the time."""
    encoded = encode(event)
    return encoded if encoded.isascii() and b"\x7f" not in encoded else json_text(msgspec.to_builtins(event)).encode()


def _offline_config(options: argparse.Namespace) -> Config:
    # A file is scored where no agent runs, so a state folder need not be there.
    return load_config(options.config, ("agent.state_dir=/nonexistent", *options.set))


def _stream_of(config: Config, name: str | None) -> StreamSection:
    for stream in config.streams:
        if name in (None, stream.name) and (name or len(config.streams) == 1):
            return stream
    raise UsageError(f"score: --stream must be one of: {', '.join(stream.name for stream in config.streams)}")
