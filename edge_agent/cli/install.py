"""`edge-agent install`: this version of the agent becomes the service of this device."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.epilog = (
        "Example: edge-agent install --config agent.toml --bundle pump-1.0.0.edge. Again, of a newer version: it takes "
        "the place of the one that runs, and goes back to that if it does not start. The configuration stays."
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="put it to /etc/edge-agent/agent.toml")
    command.add_argument(
        "--bundle", type=Path, metavar="FILE", action="append", default=[], help="put it beside that; once for each"
    )
    command.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="another file that it names, such as a certificate",
    )
    command.add_argument(
        "--replace-config", action="store_true", help="put --config in the place of one that is there, and keep that"
    )
    command.add_argument(
        "--name", help="install it as edge-agent@NAME, with NAME.toml: one of several agents on this device"
    )
    command.add_argument("--no-start", action="store_true", help="start nothing, for an image that is being built")
    command.add_argument("--dry-run", action="store_true", help="say each step, and do none")
    # What install.sh of an archive gives.
    command.add_argument("--program", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Install the service and say each step."""
    from edge_agent.service.install import install

    install(
        program=options.program,
        config=options.config,
        name=options.name,
        files=[*options.bundle, *options.file],
        replace_config=options.replace_config,
        start=not options.no_start,
        dry_run=options.dry_run,
    )
