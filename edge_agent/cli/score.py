"""`edge-agent score`: a file of readings through the pipeline of a stream."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from edge_agent.bundle import open_bundle
from edge_agent.cli.options import add_json, add_set
from edge_agent.config.load import load_config
from edge_agent.config.settings import Config, StreamSection
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import UsageError
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.add_argument("file", type=Path, help="readings (.csv, .csv.gz, .npz)")
    command.add_argument("--bundle", type=Path, help="the bundle to score with")
    command.add_argument("--config", type=Path, help="or a configuration, for a stream's bundle and settings")
    command.add_argument("--stream", help="the stream in it; the only one when not given")
    add_set(command)
    command.add_argument("--scores", type=Path, metavar="OUT.csv", help="write every score with its time and asset")
    command.add_argument(
        "--alerts",
        type=Path,
        metavar="OUT.jsonl",
        help="write every event as it would be published, in place of showing it",
    )
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Score a file with the code that scores a stream."""
    from edge_agent.data_files import read_sensor_data
    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.fallback import FallbackEngine
    from edge_agent.offline import has_several_batches, score_data, write_alerts, write_scores

    config = None if options.config is None else _offline_config(options)
    section = None if config is None else _stream_of(config, options.stream)
    if (section is None) == (options.bundle is None):
        raise UsageError("score: give either --bundle, or --config and --stream")
    if config is None and options.set:
        raise UsageError("score: --set changes a configuration, so it needs --config")
    if options.scores is not None and options.scores == options.alerts:
        raise UsageError(f"score: --scores and --alerts are both {options.scores}")
    bundle = open_bundle(options.bundle if section is None else Path(section.bundle))
    data = read_sensor_data(options.file)
    # The CPU provider is everywhere and needs no measuring; with a configuration, what it says.
    wanted = EngineSettings(provider="cpu") if config is None else config.engine
    choice = choose_provider(bundle, wanted, state_dir=None)
    engine = FallbackEngine(bundle, choice)
    # On the processor with one thread, a second core is free for it; elsewhere two would want one device.
    is_helped = engine.current.name == "cpu" and has_several_batches(data, bundle)
    report = score_data(
        data,
        bundle,
        engine,
        helper=FallbackEngine(bundle, choice) if is_helped else None,
        agent="offline" if config is None else config.agent.id,
        stream=bundle.manifest.name if section is None else section.name,
        provider=choice.provider,
        settings=None if section is None else section.settings,
    )
    if options.scores is not None:
        write_scores(options.scores, report)
    if options.alerts is not None:
        write_alerts(options.alerts, report)
    if options.json:
        say(json_text({**report.describe(), "alerts": [msgspec.to_builtins(event) for event in report.events()]}))
        return
    for event in report.events() if options.alerts is None else ():
        say(f"{event.event:<8} {event.asset}  {event.time}  {event.describe()}")
    say(", ".join(f"{name} {value}" for name, value in report.describe().items()))


def _offline_config(options: argparse.Namespace) -> Config:
    # A file is scored where no agent runs, so a state folder need not be there.
    return load_config(options.config, ("agent.state_dir=/nonexistent", *options.set))


def _stream_of(config: Config, name: str | None) -> StreamSection:
    for stream in config.streams:
        if name in (None, stream.name) and (name or len(config.streams) == 1):
            return stream
    raise UsageError(f"score: --stream must be one of: {', '.join(stream.name for stream in config.streams)}")
