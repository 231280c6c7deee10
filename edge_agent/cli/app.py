"""The `edge-agent` command. The one place on the device that turns an EdgeError into an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent import __version__
from edge_agent.bundle import Bundle, Manifest, open_bundle
from edge_agent.cli.log import configure_logging
from edge_agent.config import Config, StreamSection, load_config
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import BundleError, ConfigError, EdgeError, ProviderError, UsageError
from edge_agent.stream.settings import StreamSettings

__all__ = ["main"]

log = logging.getLogger(__name__)

_DEFAULT_CONFIG = "/etc/edge-agent/agent.toml"


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or that of the EdgeError that ended it. A bug leaves with its traceback and exit code 1.
    """
    options = _parser().parse_args(arguments)
    configure_logging(options.log_level)
    try:
        options.command(options)
    except EdgeError as exc:
        for line in str(exc).splitlines():
            print(f"edge-agent: {line}", file=sys.stderr)
        return exc.exit_code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Scores sensor readings on this device and publishes anomalies over MQTT.",
        epilog="Exit codes: 0 done, 2 wrong usage, 65 bad bundle, 69 a provider or package is missing, "
        "70 the runtime failed, 78 the configuration is wrong.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, function, text, wants_config, wants_json in (
        ("run", _run, "score readings until stopped (what the service runs)", True, False),
        ("check", _check, "open the bundles, try the providers and score one window; starts nothing", True, True),
        (
            "providers",
            _providers,
            "show what each provider of this device did with the bundles, and the choice",
            True,
            True,
        ),
        ("show-config", _show_config, "print the effective settings, without secrets", True, True),
        ("score", _score, "score a file of readings with the code that scores a stream", False, True),
        ("recommission", _recommission, "set the limits of a stream's assets anew, in the running agent", True, False),
        ("version", _version, "print the versions of the agent and of what it runs on", False, True),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(command=function)
        command.add_argument(
            "--log-level", default="info" if name == "run" else "warning", choices=["debug", "info", "warning", "error"]
        )
        if wants_config:
            command.add_argument("--config", type=Path, default=Path(_DEFAULT_CONFIG), help="default: %(default)s")
            _add_set_option(command)
        if function is _recommission:
            command.add_argument("stream", help="name of the stream")
            command.add_argument("asset", nargs="?", help="one asset; all of the stream when not given")
        if function is _score:
            _add_score_options(command)
        if name == "providers":
            command.add_argument("--anew", action="store_true", help="measure, whatever is remembered")
        if wants_json:
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def _add_set_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting outside of streams that wins over the file, such as mqtt.port=8883; may be given again",
    )


def _load(options: argparse.Namespace) -> Config:
    return load_config(options.config, tuple(options.set))


def _open_bundles(config: Config) -> list[Bundle]:
    """Every stream's bundle.

    Raises:
        BundleError: some cannot be used; the text has a line for each.
    """
    bundles: list[Bundle] = []
    problems: list[str] = []
    for stream in config.streams:
        try:
            bundles.append(open_bundle(Path(stream.bundle)))
        except BundleError as exc:
            problems.append(str(exc))
    if problems:
        raise BundleError("\n".join(problems))
    return bundles


def _by_stream(
    config: Config, bundles: list[Bundle], ask: Callable[[StreamSettings, Manifest], str | None]
) -> list[str]:
    """What is to be said of settings beside their stream's bundle."""
    pairs = enumerate(zip(config.streams, bundles, strict=True), start=1)
    found = ((number, ask(stream.settings, bundle.manifest)) for number, (stream, bundle) in pairs)
    return [f"[[stream]] {number} {text}" for number, text in found if text is not None]


def _run(options: argparse.Namespace) -> None:
    # The runtime, paho and SQLite are loaded only where something runs, so that --help is quick.
    from edge_agent.agent.loop import Daemon
    from edge_agent.agent.state_dir import locked_state_dir
    from edge_agent.agent.stream import LoadedStream
    from edge_agent.agent.systemd import Notifier
    from edge_agent.engine.crash import crash_watch

    config = _load(options)
    bundles = _open_bundles(config)
    for misfit in _by_stream(config, bundles, StreamSettings.problem_with):
        # Perhaps only since the bundle was replaced: no reason not to start.
        log.warning("setting does not fit the bundle: %s", misfit)
    for remark in _by_stream(config, bundles, StreamSettings.remark_on):
        log.warning("setting and bundle: %s", remark)
    state_dir = Path(config.agent.state_dir)
    streams = [LoadedStream(*pair) for pair in zip(config.streams, bundles, strict=True)]
    with locked_state_dir(state_dir), crash_watch(state_dir):
        Daemon(config, streams, Notifier()).run()


def _check(options: argparse.Namespace) -> None:
    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.fallback import FallbackEngine
    from edge_agent.engine.runtime import runtime_problem
    from edge_agent.sources.decode import Decoder
    from edge_agent.sources.text_input import TextInput

    config = _load(options)
    problem = runtime_problem(thorough=True)
    if problem is not None:
        raise ProviderError(problem)
    report: list[dict[str, Any]] = []
    bundles = _open_bundles(config)
    misfits = _by_stream(config, bundles, StreamSettings.problem_with)
    if misfits:
        raise ConfigError("\n".join(f"{options.config}: {misfit}" for misfit in misfits))
    for settings, bundle in zip(config.streams, bundles, strict=True):
        choice = choose_provider(bundle, config.engine, state_dir=None)
        engine = FallbackEngine(bundle, choice)
        Decoder([channel.name for channel in bundle.manifest.channels], payload_format=settings.format)
        if settings.input is not None:
            TextInput(settings.name, settings.input).close()
        zeros = np.zeros((1, bundle.manifest.window, len(bundle.manifest.channels)), dtype=np.float32)
        report.append(
            {
                "stream": settings.name,
                "bundle": settings.bundle,
                "model": f"{bundle.manifest.name} {bundle.manifest.version}",
                "provider": choice.provider,
                "provider_reason": choice.reason,
                "score_of_zeros": float(engine.score(zeros).score[0]),
                "threshold": bundle.manifest.threshold.alarm,
            }
        )
    if options.json:
        remarks = _by_stream(config, bundles, StreamSettings.remark_on)
        print(json.dumps({"ok": True, "config": str(options.config), "streams": report, "remarks": remarks}))
        return
    for stream in report:
        print(f"{stream['stream']}: {stream['model']} on {stream['provider']} ({stream['provider_reason']})")
        print(f"  a window of zeros scores {stream['score_of_zeros']:.4g}; alerts start at {stream['threshold']:.4g}")
    for remark in _by_stream(config, bundles, StreamSettings.remark_on):
        print(f"remark: {remark}")
    count = f"{len(report)} stream{'s' if len(report) > 1 else ''}"
    print(f"{options.config}: good, {count}; neither the broker nor the state folder was tried")


def _providers(options: argparse.Namespace) -> None:
    from edge_agent.engine.choice.discovery import discover
    from edge_agent.engine.choice.report import choice_lines, discovery_lines
    from edge_agent.engine.upkeep import choose_for_stream

    if str(options.config) == _DEFAULT_CONFIG and not options.config.exists():
        found = discover()
        if options.json:
            print(json.dumps({"here": [p.name for p in found.providers], "absent": msgspec.to_builtins(found.absent)}))
            return
        print("\n".join(["this device, no configuration given:", *discovery_lines(found)]))
        return
    config = _load(options)
    state_dir = Path(config.agent.state_dir)
    report: list[dict[str, Any]] = []
    for settings in config.streams:
        bundle = open_bundle(Path(settings.bundle))
        choice = choose_for_stream(bundle, config.engine, stream=settings.name, state_dir=state_dir, anew=options.anew)
        report.append({"stream": settings.name, "bundle": settings.bundle, **choice.describe()})
        if not options.json:
            print("\n".join([f"{settings.name}: {settings.bundle}", *choice_lines(choice)]))
    if options.json:
        print(json.dumps({"streams": report}))


def _show_config(options: argparse.Namespace) -> None:
    shown = _load(options).describe()
    if options.json:
        print(json.dumps(shown))
        return
    streams = shown.pop("stream")
    for name, table in shown.items():
        _print_table(f"[{name}]", name, table)
    for stream in streams:
        _print_table("[[stream]]", "stream", stream)


def _print_table(heading: str, name: str, table: dict[str, Any]) -> None:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    print(heading)
    for key, value in table.items():
        if value is not None and key not in inner:
            print(f"{key} = {json.dumps(value)}")
    print()
    for key, value in inner.items():
        _print_table(f"[{name}.{key}]", f"{name}.{key}", value)


def _add_score_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="readings (.csv, .csv.gz, .npz)")
    command.add_argument("--bundle", type=Path, help="the bundle to score with")
    command.add_argument("--config", type=Path, help="or a configuration, for a stream's bundle and settings")
    command.add_argument("--stream", help="the stream in it; the only one when not given")
    _add_set_option(command)
    command.add_argument("--scores", type=Path, metavar="OUT.csv", help="write every score with its time and asset")
    command.add_argument(
        "--alerts",
        type=Path,
        metavar="OUT.jsonl",
        help="write every event as it would be published, in place of showing it",
    )


def _score(options: argparse.Namespace) -> None:
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
        print(json.dumps({**report.describe(), "alerts": [msgspec.to_builtins(event) for event in report.events()]}))
        return
    for event in report.events() if options.alerts is None else ():
        print(f"{event.event:<8} {event.asset}  {event.time}  {event.describe()}")
    print(", ".join(f"{name} {value}" for name, value in report.describe().items()))


def _offline_config(options: argparse.Namespace) -> Config:
    # A file is scored where no agent runs, so a state folder need not be there.
    return load_config(options.config, ("agent.state_dir=/nonexistent", *options.set))


def _stream_of(config: Config, name: str | None) -> StreamSection:
    for stream in config.streams:
        if name in (None, stream.name) and (name or len(config.streams) == 1):
            return stream
    raise UsageError(f"score: --stream must be one of: {', '.join(stream.name for stream in config.streams)}")


def _recommission(options: argparse.Namespace) -> None:
    from edge_agent.agent.requests import Recommission, leave_request

    config = _load(options)
    stream = next((stream for stream in config.streams if stream.name == options.stream), None)
    if stream is None:
        names = ", ".join(stream.name for stream in config.streams)
        raise UsageError(f"stream {options.stream!r} is not in {options.config}, which has: {names}")
    if not stream.commission.readings:
        raise UsageError(f"stream {options.stream!r} is not commissioned; set readings in its [stream.commission]")
    leave_request(Path(config.agent.state_dir), Recommission(stream=options.stream, asset=options.asset))
    what = f"{options.asset or 'all assets'} of {options.stream}"
    print(f"asked: {what}; it begins within one health interval, or when the agent starts, whose log tells of how many")


def _version(options: argparse.Namespace) -> None:
    from edge_agent.engine.providers import installed_runtimes

    runtimes = installed_runtimes()
    found = {"edge-agent": __version__, "python": sys.version.split()[0], **runtimes}
    if options.json:
        print(json.dumps(found))
        return
    for name, version in found.items():
        print(f"{name} {version}")


if __name__ == "__main__":
    sys.exit(main())
