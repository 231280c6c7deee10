"""The `edge-agent` command."""

from edge_agent.cli.app import main

__all__ = ["main"]
