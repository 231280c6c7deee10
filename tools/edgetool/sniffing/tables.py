"""Tables of `[stream.payload]` that may fit documents: presets, objects of channels, rows of named values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from edge_agent.messages.values import float_of, read_number
from edge_agent.sources.decode import is_time_name
from edge_agent.sources.mapping.presets import LOCAL_TIME, PRESETS
from edgetool.sniffing.likeness import likeness, match_names

__all__ = ["Table", "candidates", "is_number", "is_surely_time", "written"]

Table = dict[str, Any]
"""Keys of `[stream.payload]`."""
_VALUE_KEYS = ("value", "v", "val", "data", "val_dbl", "doublevalue")
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_EARLIEST_S, _LATEST_S = 1e9, 4.1e9
"""Of what is taken for a time by its size alone: 2001 to 2099."""
_SEPARATORS = "./:|;-_="
_DEEPEST = 6
_Where = tuple[Any, ...]
_ITEMS = "[]"


def candidates(documents: Sequence[Any], channels: Collection[str] | None, *, one_value: bool) -> Iterator[Table]:
    """Tables that may fit, the simplest first; which does best is for the caller to try.

    Args:
        documents: payloads of one form.
        channels: what is wanted; None takes whatever numbers there are.
        one_value: the topic names the channel.
    """
    yield {}
    if not documents:
        return
    if one_value:
        yield from _of_single_values(documents)
        return
    for name in PRESETS:
        zone = {"time_zone": "UTC"} if name in LOCAL_TIME else {}
        yield {"preset": name, **zone}
    for document in documents[:3]:
        yield from _of_objects(document, channels)
        yield from _of_named_rows(document, channels)


def _of_single_values(documents: Sequence[Any]) -> Iterator[Table]:
    first = documents[0][0] if isinstance(documents[0], list) and documents[0] else documents[0]
    if not isinstance(first, dict):
        return
    for key, value in first.items():
        if is_number(value) and not is_time_name(key):
            table: Table = {} if key == "value" else {"value": written((key,))}
            time = _time_in(first, ())
            yield table | ({} if time in (None, "time") else {"time": time})


def _of_objects(document: Any, channels: Collection[str] | None) -> Iterator[Table]:
    """Of every object some of whose keys are channels."""
    for where, found, above in _objects(document, (), ()):
        numbers = {key: path for key, value in found.items() if (path := _path_to_number(key, value)) is not None}
        names = [name for name in numbers if not is_time_name(name)]
        matched = dict(zip(names, names, strict=True)) if channels is None else match_names(channels, names)
        if not matched:
            continue
        rows, fields = _split(where)
        table: Table = {}
        if rows:
            table["rows"] = written(rows)
        if fields:
            table["fields"] = written(fields)
        time = _time_of(above, fields, found)
        if time not in (None, "time"):
            table["time"] = time
        renamed = {channel: written(numbers[name]) for channel, name in matched.items() if numbers[name] != (channel,)}
        if renamed:
            table["channels"] = renamed
        yield table


def _of_named_rows(document: Any, channels: Collection[str] | None) -> Iterator[Table]:
    """Of every array of objects in which a text names what a number is."""
    for where, rows, above in _arrays(document, (), ()):
        objects = [row for row in rows if isinstance(row, dict)]
        if not objects:
            continue
        texts = [key for key, value in objects[0].items() if isinstance(value, str) and not is_number(value)]
        numbers = [key for key, value in objects[0].items() if is_number(value) and not is_time_name(key)]
        numbers.sort(key=lambda key: key.lower() not in _VALUE_KEYS)
        for name_key in texts:
            sent = {str(row[name_key]) for row in objects if isinstance(row.get(name_key), str)}
            named = _names_of(sent, channels)
            if named is None or not numbers:
                continue
            table: Table = {"rows": written((*where, _ITEMS)), "name": written((name_key,))}
            if numbers[0] != "value":
                table["value"] = written((numbers[0],))
            table |= named
            time = _time_of([*above, objects[0]], (), objects[0])
            if time not in (None, "time"):
                table["time"] = time
            yield table


def _names_of(sent: Collection[str], channels: Collection[str] | None) -> Table | None:
    """`names`, or `from` of each channel, for names such as `Line1.Pump1.Pressure`; None where none is alike."""
    if channels is None:
        return {}
    if set(channels) & set(sent):
        return {}
    for sign in _SEPARATORS:
        parts = [name.split(sign) for name in sent]
        lengths = {len(each) for each in parts}
        if len(lengths) != 1 or lengths == {1}:
            continue
        last = {each[-1] for each in parts}
        matched = match_names(channels, last)
        if not matched or any(likeness(channel, name) < 1 for channel, name in matched.items()):
            continue
        levels = [{each[number] for each in parts} for number in range(lengths.pop() - 1)]
        varying = [number for number, level in enumerate(levels) if len(level) > 1]
        if len(varying) > 1:
            continue
        shown = ["{asset}" if number in varying else next(iter(level)) for number, level in enumerate(levels)]
        if any(set(each) & set("{}") for each in shown if each != "{asset}"):
            continue
        table: Table = {"names": sign.join([*shown, "{channel}"])}
        renamed = {channel: name for channel, name in matched.items() if channel != name}
        return table | ({"channels": renamed} if renamed else {})
    matched = match_names(channels, sent)
    return {"channels": matched} if matched else None


# Looking around in a document ----------------------------------------------------------------------------------------


def _objects(found: Any, where: _Where, above: tuple[Any, ...]) -> Iterator[tuple[_Where, dict[str, Any], list[Any]]]:
    """Every object, where it is, and the objects that it stands in, itself last."""
    if len(where) > _DEEPEST:
        return
    if isinstance(found, list):
        if found:
            yield from _objects(found[0], (*where, _ITEMS), above)
    elif isinstance(found, dict):
        yield where, found, [*above, found]
        for key, value in found.items():
            yield from _objects(value, (*where, key), (*above, found))


def _arrays(found: Any, where: _Where, above: tuple[Any, ...]) -> Iterator[tuple[_Where, list[Any], list[Any]]]:
    if len(where) > _DEEPEST:
        return
    if isinstance(found, list):
        yield where, found, [*above]
        if found:
            yield from _arrays(found[0], (*where, _ITEMS), above)
    elif isinstance(found, dict):
        for key, value in found.items():
            yield from _arrays(value, (*where, key), (*above, found))


def _split(where: _Where) -> tuple[_Where, _Where]:
    """The path to the rows, which ends at the last array, and from there to the fields."""
    last = max((number for number, step in enumerate(where) if step == _ITEMS), default=-1)
    rows = where[: last + 1]
    # A document that is an array is one of readings as it is.
    return (() if rows == (_ITEMS,) else rows), where[last + 1 :]


def _time_of(above: Sequence[Any], fields: _Where, found: dict[str, Any]) -> str | list[str] | None:
    """The path to a time, seen from the row: in it, in its fields, or above it; None if there is none."""
    row = above[len(above) - 1 - len(fields)]
    inside = _time_in(row, ())
    if inside is not None:
        return inside
    if fields and (in_fields := _time_in(found, fields)) is not None:
        return in_fields
    outer = above[: len(above) - 1 - len(fields)]
    for height, each in enumerate(reversed(outer), start=1):
        key = _time_in(each, ())
        if key is not None:
            return [".."] * height + key if isinstance(key, list) else "../" * height + key
    return None


def _time_in(found: Any, where: _Where) -> str | list[str] | None:
    if not isinstance(found, dict):
        return None
    called = [key for key, value in found.items() if is_time_name(key) and _may_be_time(value)]
    called.sort(key=lambda key: key.lower() not in ("time", "timestamp", "ts", "t"))
    sized = [key for key, value in found.items() if is_surely_time(value)]
    for key in (*called, *sized):
        return written((*where, key))
    return None


def _may_be_time(value: Any) -> bool:
    return is_surely_time(value) or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)


def is_surely_time(value: Any) -> bool:
    """True for a text in ISO 8601, and a number that is a time of this century by its size."""
    if isinstance(value, str):
        return _ISO.match(value) is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return any(_EARLIEST_S <= float_of(value) / scale <= _LATEST_S for scale in (1, 1e3, 1e6, 1e9))


def _path_to_number(key: str, value: Any) -> _Where | None:
    """Where the number of a key stands: at it, or in the one number of an object there."""
    if is_number(value) and not is_surely_time(value):
        return (key,)
    if isinstance(value, dict):
        inner = [name for name, each in value.items() if name.lower() in _VALUE_KEYS and is_number(each)]
        return (key, inner[0]) if inner else None
    return None


def is_number(value: Any) -> bool:
    """True for a number, a boolean, and a text that is a number."""
    if isinstance(value, str):
        try:
            read_number(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float)


def written(steps: Sequence[Any]) -> str | list[str]:
    """A path as a table writes it."""
    keys = [step for step in steps if step != _ITEMS]
    if any(set(key) & set(".[]*/$") or not key for key in keys):
        return [str(step) for step in steps]
    text = ""
    for step in steps:
        text += step if step == _ITEMS else f".{step}" if text else step
    return text
