"""`edge-agent rollback`: the version of the service that ran before runs again."""

from __future__ import annotations

import argparse

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.add_argument("--dry-run", action="store_true", help="say each step, and do none")


def run(options: argparse.Namespace) -> None:
    """Switch the versions and restart the service."""
    from edge_agent.service.install import roll_back

    roll_back(dry_run=options.dry_run)
