"""`edge-agent providers`: what each provider of this device did with the bundles, and the choice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.cli.options import DEFAULT_CONFIG, add_config, add_json, load_running, open_bundles
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    command.add_argument("--anew", action="store_true", help="measure, whatever is remembered")
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Report what is remembered or measured of each provider."""
    from edge_agent.engine.choice.discovery import discover
    from edge_agent.engine.choice.report import choice_lines, discovery_lines
    from edge_agent.engine.upkeep import choose_for_stream

    if options.config == DEFAULT_CONFIG and not options.config.exists():
        found = discover()
        if options.json:
            say(json_text({"here": [p.name for p in found.providers], "absent": msgspec.to_builtins(found.absent)}))
            return
        for line in ("this device, no configuration given:", *discovery_lines(found)):
            say(line)
        return
    config = load_running(options)
    state_dir = Path(config.agent.state_dir)
    report: list[dict[str, Any]] = []
    for settings, bundle in zip(config.streams, open_bundles(config), strict=True):
        choice = choose_for_stream(
            bundle, config.engine_of(settings), stream=settings.name, state_dir=state_dir, anew=options.anew
        )
        report.append({"stream": settings.name, "bundle": settings.bundle, **choice.describe()})
        if not options.json:
            for line in (f"{settings.name}: {settings.bundle}", *choice_lines(choice)):
                say(line)
    if options.json:
        say(json_text({"streams": report}))
