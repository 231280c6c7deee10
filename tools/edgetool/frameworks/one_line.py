"""What a framework says of its failure, for an error of one line."""

from __future__ import annotations

import re

__all__ = ["one_line"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOST = 300


def one_line(exc: BaseException) -> str:
    """Class and text of an exception, without line breaks and colours, and not much of a long one."""
    text = " ".join(_COLOUR.sub("", str(exc)).split())
    return f"{type(exc).__name__}: {text[:_MOST]}"
