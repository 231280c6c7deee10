"""`edge-agent show-config`: the effective settings, safe to paste into a report."""

from __future__ import annotations

import argparse
from typing import Any

from edge_agent.cli.options import add_config, add_json, load_running
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Print the effective settings."""
    shown = load_running(options).describe()
    if options.json:
        say(json_text(shown))
        return
    streams = shown.pop("stream")
    for name, table in shown.items():
        _print_table(f"[{name}]", name, table)
    for stream in streams:
        _print_table("[[stream]]", "stream", stream)


def _print_table(heading: str, name: str, table: dict[str, Any]) -> None:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    several = {
        key: value
        for key, value in table.items()
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict)
    }
    say(heading)
    for key, value in table.items():
        if value is not None and key not in inner and key not in several:
            say(f"{key} = {json_text(value)}")
    say()
    for key, value in inner.items():
        _print_table(f"[{name}.{key}]", f"{name}.{key}", value)
    for key, values in several.items():
        for each in values:
            _print_table(f"[[{name}.{key}]]", f"{name}.{key}", each)
