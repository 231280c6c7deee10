"""`edge-agent uninstall`: take the service off this device."""

from __future__ import annotations

import argparse

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.add_argument(
        "--purge", action="store_true", help="delete configuration, bundles, secrets and the journal, too"
    )
    command.add_argument(
        "--no-retire", action="store_true", help="leave sessions, status and health at the brokers as they are"
    )
    command.add_argument("--dry-run", action="store_true", help="say each step, and do none")


def run(options: argparse.Namespace) -> None:
    """Stop the service and delete it."""
    from edge_agent.service.uninstall import uninstall

    uninstall(purge=options.purge, retire=not options.no_retire, dry_run=options.dry_run)
