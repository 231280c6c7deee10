"""The `edgetool` command. The one place on the host that turns an EdgeError into an exit code."""

from __future__ import annotations

import sys

from edge_agent.errors import EdgeError
from edge_agent.terminal import begin, complain, drop_output
from edgetool.extras import require

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 2 for wrong usage, or that of the EdgeError that ended it. A bug leaves with its traceback
        and exit code 1.
    """
    begin()
    try:
        require("typer", extra="host")
        from edgetool._cli import run

        return run(arguments)
    except EdgeError as exc:
        complain("edgetool", exc)
        return exc.exit_code
    except BrokenPipeError:
        drop_output()
        return 0


if __name__ == "__main__":
    sys.exit(main())
