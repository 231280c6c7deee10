"""Packages of optional extras: imported where they are needed, with the fix in the error when they are missing."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any

from edge_agent.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import a module of an extra.

    Raises:
        MissingExtraError: it is not installed; the text has the command that installs it.
    """
    # What an import makes is there to stay: to look through it for garbage takes a tenth of PyTorch's.
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        missing = (exc.name or module).partition(".")[0]
        raise MissingExtraError(missing, extra) from exc
    finally:
        if collects:
            gc.enable()
