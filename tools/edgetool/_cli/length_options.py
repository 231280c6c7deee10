"""Lengths of time on the command line, which all commands take in the same form."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent.messages.values import read_length

__all__ = ["TimeoutOption", "length", "some_length"]


def length(text: str | float) -> float:
    """A length of time in seconds, of a text such as 30s, 15min, 24h or 7d; a number alone is seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    words = str(text).strip()
    try:
        return read_length(words if words[-1:].isalpha() else f"{words}s")
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected a time such as 30s, 15min, 24h or 7d") from None


def some_length(text: str | float) -> float:
    """A length of time above 0, seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    seconds = length(text)
    if not seconds:
        raise typer.BadParameter(f"{text!r}: expected more than none")
    return seconds


TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=some_length,
        metavar="30s|10min",
        help="For all runs of models together; given up when they are over.",
    ),
]
