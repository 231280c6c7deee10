"""The facts of a log line, by their names: `stream=%s` with its argument is the fact `stream`."""

from __future__ import annotations

import logging
import re

__all__ = ["facts_of"]

_LIMIT_CHARACTERS = 1024
_PLACEHOLDER = re.compile(r"(?:(?P<name>[a-z]\w*)=)?%(?P<form>[-#0 +]*(?P<width>\*|\d+)?(?:\.(?P<digits>\*|\d+))?\w|%)")


def facts_of(record: logging.LogRecord) -> dict[str, str]:
    """What a log line says as `name=value`, where the value is an argument of the line.

    A text is given as it is, where the line may have it quoted or cut short, up to 1,024 characters; a number as it
    stands in the line.
    """
    found: dict[str, str] = {}
    if not isinstance(record.args, tuple):
        return found
    arguments = iter(record.args)
    try:
        for match in _PLACEHOLDER.finditer(str(record.msg)):
            if match["form"] == "%":
                continue
            stars = [next(arguments) for star in (match["width"], match["digits"]) if star == "*"]
            value = next(arguments)
            if match["name"] is None:
                continue
            is_text = match["form"][-1] in "sra"
            text = str(value) if is_text else f"%{match['form']}" % (*stars, value)
            found[match["name"]] = text[:_LIMIT_CHARACTERS]
    except (StopIteration, TypeError, ValueError):
        # The line itself says what is wrong with its arguments; see `logging.Handler.handleError`.
        return found
    return found
