"""`edge-agent version`: the versions of the agent and of what it runs on."""

from __future__ import annotations

import argparse
import json
import sys

from edge_agent import __version__
from edge_agent.cli.options import add_json

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
        print(json.dumps(found))
        return
    for name, version in found.items():
        print(f"{name} {version}")
