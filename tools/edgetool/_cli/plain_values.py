"""Values of the command line that are right as they stand, and need no look of typer's.

typer 0.29 has pydantic look at each value, also at one that was not given, and to import that takes longer than all of
typer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import typer

__all__ = ["take_plain_values"]

_LISTS = {list[str]: str, list[Path]: Path}


def take_plain_values(command: Any) -> None:
    """Let a command, and all below it, take as it is what is plainly right; typer sees the rest, and words its errors.

    Args:
        command: as `typer.main` makes it of an application. One of a typer without types of its own is left alone.
    """
    for parameter in command.get_params(typer.Context(command)):  # with --help, which is in no list
        if hasattr(parameter, "type_descriptor"):
            parameter.process_value = partial(_value_of, parameter, parameter.process_value)
    for below in getattr(command, "commands", {}).values():
        take_plain_values(below)


def _value_of(parameter: Any, by_typer: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    kind, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    takes_several = parameter.multiple or parameter.nargs == -1
    if value is None and not parameter.required:
        nothing = () if takes_several else None
        return nothing if parameter.callback is None else parameter.callback(context, parameter, nothing)
    # A default is what the command itself would be called with.
    if value is parameter.default and type(value) is kind:
        return value
    try:
        if takes_several and value and kind in _LISTS:
            return [_plain(_LISTS[kind], each) for each in value]
        if info.parser is None and not takes_several and type(value) is str:
            return _plain(kind, value)
    except ValueError:
        pass
    return by_typer(context, value)


def _plain(kind: Any, text: str) -> Any:
    """A text as a value.

    Raises:
        ValueError: it is none, or one that typer has to look at.
    """
    text.encode()  # a name that is no UTF-8 is none
    if kind is str:
        return text
    if kind is Path and text and (os.access(text, os.R_OK) or not os.path.lexists(text)):
        return Path(text)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(text)
    raise ValueError(text)
