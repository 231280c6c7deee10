"""`edge-agent score`: files of readings through the pipeline of a stream."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.cli.options import add_json, add_set
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import EdgeError, UsageError
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.text import encode
from edge_agent.progress_line import ProgressLine
from edge_agent.terminal import json_text, say, say_list

if TYPE_CHECKING:
    from edge_agent.config.settings import Config, StreamSection
    from edge_agent.data_files import Columns, DataStream
    from edge_agent.messages.reading import FloatArray
    from edge_agent.messages.scores import Engine, Scores
    from edge_agent.offline import Scored, Summary

__all__ = ["add_options", "run"]

_PROVIDER = "cpu"
"""It is everywhere, and needs no measuring; with a configuration, what that says."""
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
    command.add_argument(
        "--custom-ops",
        type=Path,
        action="append",
        default=[],
        metavar="LIB",
        help="with --bundle: a library with operators of the model, which may be loaded; may be given again",
    )
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
    from edge_agent.config.offline import load_offline, stream_of
    from edge_agent.data_files import DataFiles, open_data
    from edge_agent.offline import Summary, score_blocks, without_collector

    config = None if options.config is None else load_offline(options.config, options.set)
    section = None if config is None else stream_of(config, options.stream, "score")
    if (section is None) == (options.bundle is None):
        raise UsageError("score: give either --bundle, or --config and --stream")
    if config is None and options.set:
        raise UsageError("score: --set changes a configuration, so it needs --config")
    if options.scores is not None and options.scores == options.alerts:
        raise UsageError(f"score: --scores and --alerts are both {options.scores}")
    bundle = _bundle(options, config, section)
    summary = Summary(bundle.manifest.channels)
    with open_data(DataFiles.named(options.files, _columns(options, bundle))) as data:
        _tell_ignored(data)
        blocks = summary.count_rows(data.blocks())
        # Reading goes on beside the loading of the model.
        blocks = chain(list(islice(blocks, 1)), blocks)
        engine, helper, provider = _engines(bundle, config)
        scored = score_blocks(
            blocks,
            bundle,
            engine,
            helper=helper,
            agent="offline" if config is None else config.agent.id,
            stream=bundle.manifest.name if section is None else section.name,
            provider=provider,
            settings=None if section is None else section.settings,
        )
        with without_collector():
            _report(scored, summary, data, options, window=bundle.manifest.window)


def _bundle(options: argparse.Namespace, config: Config | None, section: StreamSection | None) -> Bundle:
    """The bundle, with the libraries that the configuration or the command line allows it."""
    from edge_agent.config.trust import trusted_keys
    from edge_agent.engine.custom_ops import allow_configured, allow_given

    if config is not None and section is not None:
        if options.custom_ops:
            raise UsageError("score: with --config, [[engine.custom_ops]] there allows libraries, not --custom-ops")
        return allow_configured(open_bundle(Path(section.bundle), trusted_keys(config.trust)), config.engine)
    bundle = open_bundle(options.bundle)
    if options.custom_ops and not bundle.manifest.custom_ops:
        raise UsageError(f"score: {options.bundle} needs no operators of a library; leave --custom-ops out")
    return allow_given(bundle, options.custom_ops, guarded=True)


def _columns(options: argparse.Namespace, bundle: Bundle) -> Columns:
    from edge_agent.data_files import Columns

    channels = tuple(channel.name for channel in bundle.manifest.channels)
    return Columns(options.time_column, options.asset_column, options.label_column, channels, "the bundle")


def _tell_ignored(data: DataStream) -> None:
    for name in data.ignored:
        say(f"WARNING  column {name!r} holds text and is no channel of the bundle: it is ignored", to=sys.stderr)


def _engines(bundle: Bundle, config: Config | None) -> tuple[Engine, Engine | None, str]:
    """The engine, a second one for the core that is free beside it, and the name of their provider."""
    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.fallback import FallbackEngine
    from edge_agent.engine.proven import open_proven

    wanted = EngineSettings(provider=_PROVIDER) if config is None else config.engine
    if (wanted.require or wanted.provider, wanted.threads) == (_PROVIDER, 1):
        if sys.stderr is sys.__stderr__:
            faulthandler.enable()  # a model that ends the runtime ends this process, and says where
        # There is nothing to choose. Where it fails, the choice below says why.
        with suppress(EdgeError):
            return open_proven(bundle), _Later(lambda: open_proven(bundle)), _PROVIDER
    choice = choose_provider(bundle, wanted, state_dir=None)
    engine = FallbackEngine(bundle, choice)
    # Elsewhere than on the processor, two would want one device.
    helper = _Later(lambda: FallbackEngine(bundle, choice)) if engine.current.name == _PROVIDER else None
    return engine, helper, choice.provider


class _Later:
    """An engine that is opened when it is needed: never, where a file is read more slowly than it is scored."""

    def __init__(self, opener: Callable[[], Engine]) -> None:
        self._opener = opener
        self._engine: Engine | None = None

    def score(self, windows: FloatArray, state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        self._engine = self._engine or self._opener()
        return self._engine.score(windows, state)


def _report(
    scored: Iterator[Scored], summary: Summary, data: DataStream, options: argparse.Namespace, *, window: int
) -> None:
    """Write or show what was scored, a batch at a time: a long file has more alerts than there may be memory."""
    from edge_agent.offline_files import AlertsFile, ScoresFile

    with ExitStack() as stack:
        line = stack.enter_context(ProgressLine(lambda: _how_far(data, summary)))
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
            elif alerts is None and events:
                line.erase()
                for event in events:
                    say(f"{event.event:<8} {event.asset}  {event.time}  {event.describe()}")
            line.step()
        line.erase()
        found, warnings = summary.describe(), summary.warnings(window)
        for text in warnings:
            say(f"WARNING  {text}", to=sys.stderr)
        if told is None:
            say(", ".join(f"{name} {value}" for name, value in found.items()))
            return
        told.seek(0)
        say_list(
            {**found, "ignored_columns": list(data.ignored), "warnings": warnings},
            "alerts",
            (line.decode().rstrip() for line in told),
        )


def _how_far(data: DataStream, summary: Summary) -> str:
    return f"{data.where()}, {summary.rows:,} rows, {summary.rows / summary.seconds:,.0f} rows/s"


def _as_json(event: AlertEvent) -> bytes:
    """An event as one line of JSON in ASCII, as `json_text` gives it, in a tenth of the time."""
    encoded = encode(event)
    return encoded if encoded.isascii() and b"\x7f" not in encoded else json_text(msgspec.to_builtins(event)).encode()
