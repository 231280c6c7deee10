"""The commands of `edgetool`: arguments and reports. What they do is in the modules that they call."""

from __future__ import annotations

import faulthandler
import sys
from importlib import import_module
from typing import Any

from typer.exceptions import Exit, TyperException
from typer.main import get_group

from edge_agent.errors import UsageError
from edgetool._cli.app import app
from edgetool._cli.plain_values import take_plain_values

__all__ = ["COMMANDS", "command_line", "run"]

_ORDER = """
    backfill bench calibrate compare dashboard deploy doctor evaluate evidence export fleet inspect keygen optimize
    pack quantize record replay sign sniff verify version watch
"""
COMMANDS = tuple(_ORDER.split())
"""Each has a module of its name here. In the order of --help, which is that of an engineer's work."""
_BESIDE = {"fleet": ("fleet_deploy", "fleet_wish")}
"""Modules with more commands below one."""


def command_line(command: str | None = None) -> Any:
    """What typer makes of the commands.

    Args:
        command: the only one that is needed; all are there when it is none of ours, as for --help. To read the options
            of all takes longer than most commands do.
    """
    for name in (command,) if command in COMMANDS else COMMANDS:
        for module in (name, *_BESIDE.get(name, ())):
            import_module(f"{__name__}.{module}")
    app.registered_commands.sort(key=_place)
    group = get_group(app)
    take_plain_values(group)
    return group


def _place(info: Any) -> int:
    return COMMANDS.index(info.callback.__module__.rpartition(".")[2])


def run(arguments: list[str] | None) -> int:
    """Run one command; gives the exit code. EdgeErrors pass through."""
    if sys.stderr is sys.__stderr__:
        faulthandler.enable()  # a model that ends the runtime ends this process, and says where
    given = sys.argv[1:] if arguments is None else arguments
    try:
        result = command_line(given[0] if given else None)(arguments, prog_name="edgetool", standalone_mode=False)
    except TyperException as exc:
        raise UsageError(f"{exc.format_message() or 'no command'} (edgetool COMMAND --help explains)") from exc
    except Exit as exc:
        return exc.exit_code
    return result if isinstance(result, int) else 0
