"""The facts of a log line, by their names: `stream=%s` with its argument is the fact `stream`."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from numbers import Integral, Real
from typing import NamedTuple, TypeAlias

__all__ = ["JsonFact", "facts_of", "json_facts_of"]

JsonFact: TypeAlias = str | int | float | bool | None

_LIMIT_CHARACTERS = 1024
_PLACEHOLDER = re.compile(r"(?:(?P<name>[a-z]\w*)=)?%(?P<form>[-#0 +]*(?P<width>\*|\d+)?(?:\.(?P<digits>\*|\d+))?\w|%)")


class _Fact(NamedTuple):
    name: str
    value: object
    """The argument."""
    text: str
    """As it stands in the line; a text as it is, where the line may have it quoted or cut short."""


def facts_of(record: logging.LogRecord) -> dict[str, str]:
    """What a log line says as `name=value`, where the value is an argument of the line.

    A text is given as it is, where the line may have it quoted or cut short, up to 1,024 characters; a number as it
    stands in the line.
    """
    return {fact.name: fact.text for fact in _facts(record)}


def json_facts_of(record: logging.LogRecord) -> dict[str, JsonFact]:
    """The same for JSON: numbers are numbers, with the digits that the line has; truth values and None are JSON's own.

    A number that is none (NaN, infinite) is None, too.
    """
    return {fact.name: _as_json(fact) for fact in _facts(record)}


def _as_json(fact: _Fact) -> JsonFact:
    if fact.value is None or isinstance(fact.value, bool):
        return fact.value
    if isinstance(fact.value, Integral):
        return int(fact.value)
    if isinstance(fact.value, Real):
        return float(fact.text) if math.isfinite(fact.value) else None
    return fact.text


def _facts(record: logging.LogRecord) -> Iterator[_Fact]:
    if not isinstance(record.args, tuple):
        return
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
            yield _Fact(match["name"], value, text[:_LIMIT_CHARACTERS])
    except (StopIteration, TypeError, ValueError):
        # The line itself says what is wrong with its arguments; see `logging.Handler.handleError`.
        return
