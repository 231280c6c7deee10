"""The `edgetool` command. The one place on the host that turns an EdgeError into an exit code."""

from __future__ import annotations

import gc
import os
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
    # The other threads of numpy's algebra spin for longer than most commands have work for them. Read with the import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    finally:
        if arguments is None:
            gc.freeze()  # the process ends now, and to look through all its modules for garbage takes long


if __name__ == "__main__":
    sys.exit(main())
