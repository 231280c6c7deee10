"""`edge-agent version`: the versions of the agent and of what it runs on."""

from __future__ import annotations

import argparse
import sys

from edge_agent import __version__
from edge_agent.cli.options import add_json
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Print versions, which a report of a bug needs."""
    from edge_agent.engine.providers import installed_runtimes

    runtimes = installed_runtimes()
    found = {"edge-agent": __version__, "python": sys.version.split()[0], **runtimes}
    if options.json:
        say(json_text(found))
        return
    for name, version in found.items():
        say(f"{name} {version}")
