"""The commands of `edgetool`: arguments and reports. What they do is in the modules that they call."""

from __future__ import annotations

import faulthandler
import sys

from typer.exceptions import Exit, TyperException

from edge_agent.errors import UsageError

# In the order of --help, which is that of an engineer's work.
from edgetool._cli import (
    backfill,
    bench,
    calibrate,
    compare,
    dashboard,
    deploy,
    doctor,
    evaluate,
    evidence,
    export,
    fleet,
    fleet_deploy,
    fleet_wish,
    inspect,
    keygen,
    optimize,
    pack,
    quantize,
    record,
    replay,
    sign,
    sniff,
    verify,
    version,
    watch,
)  # isort: skip
from edgetool._cli.app import app

__all__ = [
    "app",
    "backfill",
    "bench",
    "calibrate",
    "compare",
    "dashboard",
    "deploy",
    "doctor",
    "evaluate",
    "evidence",
    "export",
    "fleet",
    "fleet_deploy",
    "fleet_wish",
    "inspect",
    "keygen",
    "optimize",
    "pack",
    "quantize",
    "record",
    "replay",
    "run",
    "sign",
    "sniff",
    "verify",
    "version",
    "watch",
]


def run(arguments: list[str] | None) -> int:
    """Run one command; gives the exit code. EdgeErrors pass through."""
    if sys.stderr is sys.__stderr__:
        faulthandler.enable()  # a model that ends the runtime ends this process, and says where
    try:
        result = app(arguments, prog_name="edgetool", standalone_mode=False)
    except TyperException as exc:
        raise UsageError(f"{exc.format_message() or 'no command'} (edgetool COMMAND --help explains)") from exc
    except Exit as exc:
        return exc.exit_code
    return result if isinstance(result, int) else 0
