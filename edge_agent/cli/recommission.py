"""`edge-agent recommission`: set the limits of a stream's assets anew, in the running agent."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.cli.options import add_config, load
from edge_agent.errors import UsageError
from edge_agent.terminal import say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    command.add_argument("stream", help="name of the stream")
    command.add_argument("asset", nargs="?", help="one asset; all of the stream when not given")


def run(options: argparse.Namespace) -> None:
    """Ask the running agent, or the next one that starts."""
    from edge_agent.agent.requests import Recommission, leave_request

    config = load(options)
    stream = next((stream for stream in config.streams if stream.name == options.stream), None)
    if stream is None:
        names = ", ".join(stream.name for stream in config.streams)
        raise UsageError(f"stream {options.stream!r} is not in {options.config}, which has: {names}")
    if not stream.commission.readings:
        raise UsageError(f"stream {options.stream!r} is not commissioned; set readings in its [stream.commission]")
    leave_request(Path(config.agent.state_dir), Recommission(stream=options.stream, asset=options.asset))
    what = f"{options.asset or 'all assets'} of {options.stream}"
    say(f"asked: {what}; it begins within one health interval, or when the agent starts, whose log tells of how many")
