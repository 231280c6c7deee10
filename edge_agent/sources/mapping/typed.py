"""Makes readings of a document by a table where every path is plain keys: msgspec reads all of it in one pass.

What it cannot read (texts for numbers, null for an object) is left to `Walk`, which gives the same for all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from edge_agent.messages.values import FLOAT32_MAX
from edge_agent.sources.mapping.paths import ITEMS, Path
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.mapping.values import Channel
from edge_agent.sources.mapping.walk import Walk

__all__ = ["TypedParser", "make_typed_parser"]

TypedParser = Callable[[bytes], list[tuple[Any, ...]]]
"""Gives (time, asset, values list, one value for each channel) of each row; raises what msgspec raises, RecursionError
or AttributeError."""
_NUMBER = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)] | None
_DECODERS: dict[str, Any] = {"json": msgspec.json.Decoder, "msgpack": msgspec.msgpack.Decoder}
_VALUES = "values"
_NOTHING = "(nothing)"

_FORBIDDEN = re.compile(r'[\\"\x00-\x1f]')
"""What msgspec does not take in the name of a key."""

_Tree = dict[str, Any]
"""Key to the type of a leaf, or to the tree below."""


def make_typed_parser(walk: Walk, settings: PayloadSettings, channels: list[Channel], form: str) -> TypedParser | None:
    """Make the parser of a table; None where a table has something that types cannot say.

    Args:
        walk: of the same table.
        settings: the table.
        channels: of the bundle.
        form: "json" or "msgpack".
    """
    # A format of digits reads a number by its digits, which a float may not have.
    time_kind = float | str | None if settings.time_format is None else int | float | str | None
    leaves = _leaves(walk, channels, time_kind)
    rows = _rows_of(walk.rows)
    if leaves is None or rows is None or not _is_plain(walk, settings, channels):
        return None
    tree: _Tree = {}
    names = [_plant(tree, keys, kind) for keys, kind in leaves]
    listed = _plant(tree, (_VALUES,), list[_NUMBER] | None) if walk.fields is None else ""
    if None in names:
        return None
    # For a table that names no asset, or no `values`: a key that nobody sends.
    nothing = _plant(tree, (_NOTHING,), None)
    time, asset, *values = names
    row: Any = _struct(tree)
    read_row = attrgetter(*[str(name or nothing) for name in (time, asset, listed, *values)])
    keys, is_array = rows
    if not keys:
        decode = _DECODERS[form](row | list[row]).decode if not is_array else _DECODERS[form](list[row]).decode

        def parse(payload: bytes) -> list[tuple[Any, ...]]:
            decoded = decode(payload)
            return [read_row(each) for each in decoded] if type(decoded) is list else [read_row(decoded)]

        return parse
    outer: _Tree = {}
    name = _plant(outer, keys, list[row] | None if is_array else row | None)
    document = _struct(outer)
    decode_document, rows_of = _DECODERS[form](document).decode, attrgetter(str(name))

    def parse_rows(payload: bytes) -> list[tuple[Any, ...]]:
        found = rows_of(decode_document(payload))
        return [read_row(each) for each in (found if type(found) is list else [found])]

    return parse_rows


def _leaves(walk: Walk, channels: list[Channel], time_kind: Any) -> list[tuple[tuple[str, ...], Any]] | None:
    """The keys and the type of the time, the asset and the channels; None if one is no plain path."""
    fields = walk.fields or Path("")
    paths = [walk.time, *([] if walk.asset is None else [walk.asset]), fields, *walk.paths]
    if walk.gives_values or not channels or not all(path.goes_down for path in paths):
        return None
    keys = [_keys(walk.time), () if walk.asset is None else _keys(walk.asset)]
    keys += [_keys(fields) + _keys(path) for path in walk.paths]
    kinds: list[Any] = [time_kind, int | str | None, *[_NUMBER] * len(channels)]
    if any(not each for each in (keys[0], *keys[2:])) or len({*keys}) < len(keys):
        return None
    if any(_FORBIDDEN.search(key) for each in keys for key in each):
        return None
    return list(zip(keys, kinds, strict=True))


def _keys(path: Path) -> tuple[str, ...]:
    return tuple(str(step) for step in path.steps)


def _rows_of(rows: Path | None) -> tuple[tuple[str, ...], bool] | None:
    """Keys to the rows, and whether they are an array; None if the path is no plain one."""
    if rows is None:
        return (), False
    steps = rows.steps[:-1] if rows.steps[-1:] == (ITEMS,) else rows.steps
    if rows.star or not all(isinstance(step, str) for step in steps):
        return None
    return tuple(map(str, steps)), len(steps) < len(rows.steps)


def _is_plain(walk: Walk, settings: PayloadSettings, channels: list[Channel]) -> bool:
    """True if nothing but paths, scales and zones is asked for."""
    has_more = walk.judges or walk.missing.numbers or settings.time_nanos is not None
    return not has_more and all(channel.settings.is_plain for channel in channels)


def _plant(tree: _Tree, keys: tuple[str, ...], kind: Any) -> str | None:
    """Add a leaf; gives the name to get it by: empty for no keys, None if another leaf is in the way."""
    if not keys:
        return ""
    name = []
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            return None
        name.append(_name_of(tree, key))
        tree = below
    if keys[-1] in tree:
        return None
    tree[keys[-1]] = kind
    return ".".join([*name, _name_of(tree, keys[-1])])


def _name_of(tree: _Tree, key: str) -> str:
    """Keys of others are no names in Python; the number of a key is."""
    return f"key_{list(tree).index(key)}"


def _struct(tree: _Tree) -> Any:
    fields: list[Any] = []
    for key, kind in tree.items():
        name = _name_of(tree, key)
        if isinstance(kind, dict):
            below = _struct(kind)
            fields.append((name, below, below()))
        else:
            fields.append((name, kind, None))
    return msgspec.defstruct("Row", fields, rename={_name_of(tree, key): key for key in tree}, gc=False, frozen=True)
