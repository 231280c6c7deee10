"""The `edge-agent` command. The one place on the device that turns an EdgeError into an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent import __version__
from edge_agent.bundle import open_bundle
from edge_agent.config import Config, load_config
from edge_agent.errors import EdgeError, ProviderError
from edge_agent.log import configure_logging

__all__ = ["main"]

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
        ("version", _version, "print the versions of the agent and of what it runs on", False, True),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(command=function)
        command.add_argument(
            "--log-level", default="info" if name == "run" else "warning", choices=["debug", "info", "warning", "error"]
        )
        if wants_config:
            command.add_argument("--config", type=Path, default=Path(_DEFAULT_CONFIG), help="default: %(default)s")
            command.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="SECTION.KEY=VALUE",
                help="a setting that wins over the file, such as mqtt.port=8883; may be given again",
            )
        if name == "providers":
            command.add_argument("--anew", action="store_true", help="measure, whatever is remembered")
        if wants_json:
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def _load(options: argparse.Namespace) -> Config:
    return load_config(options.config, tuple(options.set))


def _run(options: argparse.Namespace) -> None:
    # The runtime, paho and SQLite are loaded only where something runs, so that --help is quick.
    from edge_agent.daemon import Daemon, LoadedStream
    from edge_agent.engine.upkeep import choose_for_stream
    from edge_agent.notify import Notifier

    config = _load(options)
    bundles = [open_bundle(Path(stream.bundle)) for stream in config.streams]
    state_dir = Path(config.agent.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    streams = []
    for settings, bundle in zip(config.streams, bundles, strict=True):
        choice = choose_for_stream(bundle, config.engine, stream=settings.name, state_dir=state_dir)
        streams.append(LoadedStream(settings, bundle, choice))
    Daemon(config, streams, Notifier()).run()


def _check(options: argparse.Namespace) -> None:
    from edge_agent.engine.fallback import FallbackEngine
    from edge_agent.engine.runtime import runtime_problem
    from edge_agent.engine.selection import choose_provider

    config = _load(options)
    problem = runtime_problem(thorough=True)
    if problem is not None:
        raise ProviderError(problem)
    report: list[dict[str, Any]] = []
    for settings in config.streams:
        bundle = open_bundle(Path(settings.bundle))
        choice = choose_provider(bundle, config.engine, state_dir=None)
        engine = FallbackEngine(bundle, choice)
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
        print(json.dumps({"ok": True, "config": str(options.config), "streams": report}))
        return
    for stream in report:
        print(f"{stream['stream']}: {stream['model']} on {stream['provider']} ({stream['provider_reason']})")
        print(f"  a window of zeros scores {stream['score_of_zeros']:.4g}; alerts start at {stream['threshold']:.4g}")
    print(f"{options.config}: good, {len(report)} streams")


def _providers(options: argparse.Namespace) -> None:
    from edge_agent.engine.discovery import discover
    from edge_agent.engine.report import choice_lines, discovery_lines
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
    for heading, table in [
        *((f"[{name}]", table) for name, table in shown.items()),
        *(("[[stream]]", s) for s in streams),
    ]:
        print(heading)
        for key, value in table.items():
            if value is not None:
                print(f"{key} = {json.dumps(value)}")
        print()


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
